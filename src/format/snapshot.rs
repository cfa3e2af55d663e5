//! Snapshots, notes on them, and records of forgetting. Format: `format-spec/10-snapshot.md`.

use super::codec::{Put, Take};
use super::tree::{Ref, Refs};
use super::{FormatError, Result};
use crate::id::{ClientId, NoteId, SnapshotId};
use crate::limits;
use crate::world::Time;

/// Key of a snapshot.
pub fn snapshot_key(id: &SnapshotId) -> String {
    format!("snapshots/{id}")
}

/// Key of a note.
pub fn note_key(id: &NoteId) -> String {
    format!("notes/{id}")
}

/// Key of a record of forgetting.
pub fn forgotten_key(id: &NoteId) -> String {
    format!("forgotten/{id}")
}

/// Why a snapshot was made. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SnapshotKind {
    /// A person asked for it.
    #[default]
    Manual = 0,
    /// A schedule did.
    Scheduled = 1,
    /// Taken before something was overwritten.
    Safety = 2,
    /// Made from an old backup of another tool.
    Imported = 3,
}

/// Whether everything was read. A failed run commits no snapshot. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// Everything.
    #[default]
    Complete = 0,
    /// Not everything: the problems say what is missing, and why.
    Partial = 1,
}

/// What could not be read, or not in one consistent state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotProblem {
    /// Raw.
    pub path: Vec<u8>,
    /// In words.
    pub why: String,
}

/// What the run dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Regular files in the snapshot.
    pub files: u64,
    /// Directories in the snapshot.
    pub directories: u64,
    /// Other entries in the snapshot.
    pub others: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that the parent had with another content.
    pub files_changed: u64,
    /// Files whose content is the parent's.
    pub files_unchanged: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Plain bytes of chunks that the repository did not have.
    pub bytes_new: u64,
    /// Bytes that the run added to the storage.
    pub bytes_stored: u64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

impl Statistics {
    fn fields(&self) -> [u64; 11] {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.files_new,
            self.files_changed,
            self.files_unchanged,
            self.bytes_read,
            self.bytes_new,
            self.bytes_stored,
            self.duration_ms,
        ]
    }

    fn from_fields(fields: [u64; 11]) -> Self {
        let [files, directories, others, bytes, files_new, files_changed, files_unchanged, ..] =
            fields;
        let [.., bytes_read, bytes_new, bytes_stored, duration_ms] = fields;
        Self {
            files,
            directories,
            others,
            bytes,
            files_new,
            files_changed,
            files_unchanged,
            bytes_read,
            bytes_new,
            bytes_stored,
            duration_ms,
        }
    }
}

/// The commit of one session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// When the run began.
    pub time: Time,
    /// The zone's offset from UTC at that time and place, minutes.
    pub offset_minutes: i32,
    /// The machine.
    pub host: String,
    /// The user who ran it.
    pub user: String,
    /// The client: one installation of one user.
    pub client: ClientId,
    /// The job's name; empty when run by hand.
    pub job: String,
    /// Why it was made.
    pub kind: SnapshotKind,
    /// What was asked for, as absolute raw paths.
    pub paths: Vec<Vec<u8>>,
    /// For people and policies.
    pub tags: Vec<String>,
    /// For people.
    pub description: String,
    /// Entries of the top directory, the one above all absolute paths.
    pub root: Refs,
    /// The snapshot that unchanged files were taken from.
    pub parent: Option<SnapshotId>,
    /// The snapshot of another repository or state that this is a copy of.
    pub original: Option<SnapshotId>,
    /// The epoch under which the session began; 0 for none.
    pub epoch: u64,
    /// An earlier session of the same run that was fenced.
    pub replaces: Option<SnapshotId>,
    /// Its number in the line of this client and job, from 1.
    pub number: u64,
    /// The newest snapshots of that line that the run saw, with the hashes of their payloads.
    pub previous: Vec<(SnapshotId, [u8; 32])>,
    /// Whether everything was read.
    pub outcome: Outcome,
    /// How many problems there were.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<SnapshotProblem>,
    /// What the run dealt with.
    pub statistics: Statistics,
    /// The program that wrote it.
    pub program: String,
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_bytes(text.as_bytes());
}

fn put_option(out: &mut Vec<u8>, id: &Option<SnapshotId>) {
    out.put_u8(id.is_some().into());
    if let Some(id) = id {
        out.extend_from_slice(id.as_bytes());
    }
}

fn take_option(take: &mut Take<'_>) -> Result<Option<SnapshotId>> {
    match take.u8("optional snapshot id")? {
        0 => Ok(None),
        1 => Ok(Some(SnapshotId(take.array("snapshot id")?))),
        _ => Err(FormatError::Bad("optional snapshot id")),
    }
}

fn take_list<T>(
    take: &mut Take<'_>,
    what: &'static str,
    item: impl Fn(&mut Take<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = take.count(limits::LIST_MAX, what)?;
    (0..count).map(|_| item(take)).collect()
}

impl Snapshot {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_time(self.time);
        out.put_signed(self.offset_minutes.into());
        put_text(&mut out, &self.host);
        put_text(&mut out, &self.user);
        out.extend_from_slice(self.client.as_bytes());
        put_text(&mut out, &self.job);
        out.put_u8(self.kind as u8);
        out.put_varint(self.paths.len() as u64);
        self.paths.iter().for_each(|path| out.put_bytes(path));
        out.put_varint(self.tags.len() as u64);
        self.tags.iter().for_each(|tag| put_text(&mut out, tag));
        put_text(&mut out, &self.description);
        self.root.encode(&mut out);
        put_option(&mut out, &self.parent);
        put_option(&mut out, &self.original);
        out.put_varint(self.epoch);
        put_option(&mut out, &self.replaces);
        out.put_varint(self.number);
        out.put_varint(self.previous.len() as u64);
        for (id, hash) in &self.previous {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(hash);
        }
        out.put_u8(self.outcome as u8);
        out.put_varint(self.problem_count);
        out.put_varint(self.problems.len() as u64);
        for problem in &self.problems {
            out.put_bytes(&problem.path);
            put_text(&mut out, &problem.why);
        }
        self.statistics.fields().iter().for_each(|field| out.put_varint(*field));
        put_text(&mut out, &self.program);
        out
    }

    /// Whether it could be read again: its lists and texts may come from anywhere, and what is
    /// over a limit would be stored for nobody.
    pub fn check(&self) -> Result<()> {
        Self::decode(&self.encode()).map(drop)
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let take = &mut Take::new(payload);
        let text = |take: &mut Take<'_>, what| take.text(limits::TEXT_LEN_MAX, what);
        let path =
            |take: &mut Take<'_>| take.bytes(limits::TEXT_LEN_MAX, "path").map(<[u8]>::to_vec);
        Ok(Self {
            time: take.time("time")?,
            offset_minutes: offset(take.signed("zone offset")?)?,
            host: text(take, "host")?,
            user: text(take, "user")?,
            client: ClientId(take.array("client")?),
            job: text(take, "job")?,
            kind: match take.u8("kind of snapshot")? {
                0 => SnapshotKind::Manual,
                1 => SnapshotKind::Scheduled,
                2 => SnapshotKind::Safety,
                3 => SnapshotKind::Imported,
                _ => return Err(FormatError::Bad("kind of snapshot")),
            },
            paths: take_list(take, "number of paths", path)?,
            tags: take_list(take, "number of tags", |take| text(take, "tag"))?,
            description: text(take, "description")?,
            root: root(take)?,
            parent: take_option(take)?,
            original: take_option(take)?,
            epoch: take.varint("epoch")?,
            replaces: take_option(take)?,
            number: take.varint("number")?,
            previous: take_list(take, "number of previous snapshots", |take| {
                Ok((SnapshotId(take.array("snapshot id")?), take.array("hash")?))
            })?,
            outcome: match take.u8("outcome")? {
                0 => Outcome::Complete,
                1 => Outcome::Partial,
                _ => return Err(FormatError::Bad("outcome")),
            },
            problem_count: take.varint("number of problems")?,
            problems: take_list(take, "number of problems", |take| {
                Ok(SnapshotProblem { path: path(take)?, why: text(take, "problem")? })
            })?,
            statistics: {
                let mut fields = [0; 11];
                for field in &mut fields {
                    *field = take.varint("statistics")?;
                }
                Statistics::from_fields(fields)
            },
            program: text(take, "program")?,
        })
    }
}

fn offset(minutes: i64) -> Result<i32> {
    match minutes {
        -1_560..=1_560 => Ok(minutes as i32),
        _ => Err(FormatError::Bad("zone offset")),
    }
}

fn root(take: &mut Take<'_>) -> Result<Refs> {
    let root = Refs::decode(take)?;
    match root.refs.iter().any(|r| matches!(r, Ref::Hole { .. })) {
        true => Err(FormatError::Bad("root")),
        false => Ok(root),
    }
}

/// What is said of a snapshot after it was made. It carries all of it: the newest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Higher than those of the notes that its writer saw; of two equal ones the greater id counts.
    pub counter: u64,
    /// When it was written.
    pub time: Time,
    /// Instead of the snapshot's own.
    pub tags: Vec<String>,
    /// Instead of the snapshot's own.
    pub description: String,
    /// Never forgotten by a policy.
    pub pinned: bool,
    /// To be forgotten from then on.
    pub expires: Option<Time>,
}

impl Note {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1]; // the kind of note that annotates
        out.extend_from_slice(self.snapshot.as_bytes());
        out.put_varint(self.counter);
        out.put_time(self.time);
        out.put_varint(self.tags.len() as u64);
        self.tags.iter().for_each(|tag| put_text(&mut out, tag));
        put_text(&mut out, &self.description);
        out.put_u8(self.pinned.into());
        out.put_u8(self.expires.is_some().into());
        out.put_time(self.expires.unwrap_or_default());
        out
    }

    /// From the payload; `None` is a kind of note that is not known here. Bytes after the fields
    /// known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>> {
        let mut take = Take::new(payload);
        if take.u8("kind of note")? != 1 {
            return Ok(None);
        }
        let snapshot = SnapshotId(take.array("snapshot id")?);
        let counter = take.varint("counter")?;
        let time = take.time("time")?;
        let tags =
            take_list(&mut take, "number of tags", |take| take.text(limits::TEXT_LEN_MAX, "tag"))?;
        let description = take.text(limits::TEXT_LEN_MAX, "description")?;
        let pinned = take.u8("pin")? != 0;
        let has_expiry = take.u8("expiry")? != 0;
        let expires = Some(take.time("expiry")?).filter(|_| has_expiry);
        Ok(Some(Self { snapshot, counter, time, tags, description, pinned, expires }))
    }
}

/// What is wished of a repository after it was made. It carries all of it: the newest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Higher than those of the wishes that its writer saw; of two equal ones that with the
    /// greater id counts.
    pub counter: u64,
    /// When it was written.
    pub time: Time,
    /// Parity of new packs, percent of their length; 0 for none.
    pub parity: u8,
}

impl Wish {
    /// The payload of the sealed object, a note of another kind.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![2]; // the kind of note that is about the repository
        out.put_varint(self.counter);
        out.put_time(self.time);
        out.put_u8(self.parity);
        out
    }

    /// From the payload; `None` is another kind of note. Bytes after the fields known here are
    /// passed over.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>> {
        let mut take = Take::new(payload);
        if take.u8("kind of note")? != 2 {
            return Ok(None);
        }
        let counter = take.varint("counter")?;
        let time = take.time("time")?;
        let parity = take.u8("parity")?;
        match parity <= limits::PARITY_PERCENT_MAX {
            true => Ok(Some(Self { counter, time, parity })),
            false => Err(FormatError::TooLarge {
                what: "parity",
                found: parity.into(),
                limit: limits::PARITY_PERCENT_MAX.into(),
            }),
        }
    }
}

/// What was forgotten, so that a gap in a line without such a record is an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// When.
    pub time: Time,
    /// Where.
    pub host: String,
    /// By whom or by what.
    pub client: ClientId,
    /// The snapshots, each with its client and number in the line.
    pub snapshots: Vec<(SnapshotId, ClientId, u64)>,
}

impl Forgotten {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_time(self.time);
        put_text(&mut out, &self.host);
        out.extend_from_slice(self.client.as_bytes());
        out.put_varint(self.snapshots.len() as u64);
        for (id, client, number) in &self.snapshots {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(client.as_bytes());
            out.put_varint(*number);
        }
        out
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut take = Take::new(payload);
        let time = take.time("time")?;
        let host = take.text(limits::TEXT_LEN_MAX, "host")?;
        let client = ClientId(take.array("client")?);
        let snapshots = take_list(&mut take, "number of snapshots", |take| {
            let id = SnapshotId(take.array("snapshot id")?);
            Ok((id, ClientId(take.array("client")?), take.varint("number")?))
        })?;
        Ok(Self { time, host, client, snapshots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    fn snapshot() -> Snapshot {
        let fields = std::array::from_fn(|i| i as u64 * 1000);
        Snapshot {
            time: Time { seconds: 1_700_000_000, nanoseconds: 5 },
            offset_minutes: -330,
            host: "host".into(),
            paths: vec![b"/a\xff".to_vec(), b"/b".to_vec()],
            tags: vec!["t".into()],
            root: Refs { depth: 0, refs: vec![Ref::Chunk { id: ChunkId([1; 32]), len: 9 }] },
            parent: Some(SnapshotId([2; 32])),
            number: 3,
            previous: vec![(SnapshotId([2; 32]), [4; 32])],
            outcome: Outcome::Partial,
            problem_count: 1,
            problems: vec![SnapshotProblem { path: b"/a".to_vec(), why: "gone".into() }],
            statistics: Statistics::from_fields(fields),
            program: "holdall".into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn snapshots_there_and_back_with_room_for_more() {
        let mut bytes = snapshot().encode();
        assert_eq!(Snapshot::decode(&bytes), Ok(snapshot()));
        (0..bytes.len()).for_each(|n| assert!(Snapshot::decode(&bytes[..n]).is_err(), "{n}"));
        bytes.push(1);
        assert_eq!(Snapshot::decode(&bytes), Ok(snapshot()));
    }

    #[test]
    fn statistics_keep_their_order() {
        let fields = std::array::from_fn(|i| i as u64 + 1);
        assert_eq!(Statistics::from_fields(fields).fields(), fields);
    }

    #[test]
    fn notes_and_records_there_and_back() {
        let note = Note {
            snapshot: SnapshotId([1; 32]),
            counter: 7,
            time: Time::from_seconds(9),
            tags: vec!["a".into(), "b".into()],
            description: "d".into(),
            pinned: true,
            expires: Some(Time::from_seconds(10)),
        };
        assert_eq!(Note::decode(&note.encode()), Ok(Some(note.clone())));
        assert_eq!(Note::decode(&[99, 1, 2]), Ok(None));
        let wish = Wish { counter: 3, time: Time::from_seconds(9), parity: 50 };
        assert_eq!(Wish::decode(&wish.encode()), Ok(Some(wish)));
        assert_eq!(Note::decode(&wish.encode()), Ok(None));
        assert_eq!(Wish::decode(&note.encode()), Ok(None));
        assert!(Wish::decode(&Wish { parity: 51, ..wish }.encode()).is_err());
        let forgotten = Forgotten {
            time: Time::from_seconds(1),
            host: "h".into(),
            client: ClientId([1; 16]),
            snapshots: vec![(SnapshotId([2; 32]), ClientId([3; 16]), 4)],
        };
        assert_eq!(Forgotten::decode(&forgotten.encode()), Ok(forgotten));
    }
}
