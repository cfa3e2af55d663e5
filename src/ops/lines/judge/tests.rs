//! Histories as they happen, and what a storage can do to them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::format::snapshot::Snapshot;

type Place = (SnapshotId, ClientId, u64);

/// A repository, and somebody who looks at it now and then.
#[derive(Debug, Clone, Default)]
struct History {
    records: Vec<SnapshotRecord>,
    forgotten: Vec<Place>,
    begun: Vec<Snapshot>,
    remembered: BTreeMap<SnapshotId, Head>,
    committed: u64,
}

/// What honest people do.
#[derive(Debug, Clone)]
enum Step {
    Begin { client: u8, job: u8 },
    Commit(usize),
    Abort(usize),
    Forget(usize),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2u8, 0..2u8).prop_map(|(client, job)| Step::Begin { client, job }),
        4 => any::<usize>().prop_map(Step::Commit),
        1 => any::<usize>().prop_map(Step::Abort),
        2 => any::<usize>().prop_map(Step::Forget),
        1 => Just(Step::Look),
    ]
}

impl History {
    fn counted(&self) -> BTreeSet<SnapshotId> {
        self.records.iter().map(|record| record.id).collect()
    }

    fn alarms(&self) -> Vec<Alarm> {
        judge(&self.records, &self.counted(), &self.remembered, &self.forgotten)
    }

    fn look(&mut self) {
        let none = BTreeSet::new();
        let alarms = self.alarms();
        self.remembered =
            to_remember(&self.records, &self.counted(), &none, &self.remembered, &alarms);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Begin { client, job } => self.begin(ClientId([*client; 16]), job.to_string()),
            Step::Commit(n) if !self.begun.is_empty() => {
                let snapshot = self.begun.remove(n % self.begun.len());
                self.committed += 1;
                let mut id = [0; 32];
                id[..8].copy_from_slice(&self.committed.to_be_bytes());
                let (id, note) = (SnapshotId(id), None);
                self.records.push(SnapshotRecord { id, snapshot, note, hash: id.0 });
            }
            Step::Abort(n) if !self.begun.is_empty() => {
                self.begun.remove(n % self.begun.len());
            }
            Step::Forget(n) if !self.records.is_empty() => {
                let record = self.records.remove(n % self.records.len());
                let Snapshot { client, number, .. } = record.snapshot;
                self.forgotten.push((record.id, client, number));
            }
            Step::Look => self.look(),
            _ => {}
        }
    }

    /// As a backup begins: it sees the newest of its line, and may take long.
    fn begin(&mut self, client: ClientId, job: String) {
        let line = |r: &&SnapshotRecord| r.snapshot.client == client && r.snapshot.job == job;
        let last = self.records.iter().filter(line).map(|r| r.snapshot.number).max().unwrap_or(0);
        let heads = self.records.iter().filter(line).filter(|r| r.snapshot.number == last);
        let previous = heads.map(|record| (record.id, record.hash)).collect();
        self.begun.push(Snapshot {
            client,
            job,
            number: last + 1,
            previous,
            ..Snapshot::default()
        });
    }

    fn after(steps: &[Step]) -> Self {
        let mut history = Self::default();
        steps.iter().for_each(|step| history.step(step));
        history
    }

    fn acknowledge(&mut self, alarms: &[Alarm]) {
        for alarm in alarms {
            match alarm {
                Alarm::Missing(head) | Alarm::Changed(head) => {
                    self.forgotten.push((head.id, head.client, head.number));
                }
                Alarm::Gap { client, first, last, .. } => {
                    let all = (*first..=*last).map(|n| (SnapshotId::default(), *client, n));
                    self.forgotten.extend(all);
                }
            }
        }
    }
}

proptest! {
    /// Whatever is begun, committed late, given up, forgotten, by several clients and jobs.
    #[test]
    fn honest_histories_raise_no_alarm(steps in vec(step(), 0..60)) {
        let mut history = History::default();
        for step in &steps {
            history.step(step);
            prop_assert_eq!(history.alarms(), []);
        }
    }

    /// Each one that was seen, or that another one names, is missed by its name; no set of
    /// deletions goes unseen; who says that he knows is not told again.
    #[test]
    fn what_the_storage_deletes_is_missed(
        steps in vec(step(), 0..60),
        deleted in vec(any::<usize>(), 1..4),
    ) {
        let mut history = History::after(&steps);
        history.look();
        let mut lost = BTreeSet::new();
        for n in deleted {
            if !history.records.is_empty() {
                lost.insert(history.records.remove(n % history.records.len()).id);
            }
        }
        let alarms = history.alarms();
        prop_assert_eq!(alarms.is_empty(), lost.is_empty());
        let linked: BTreeSet<_> = history.records.iter().flat_map(links).map(|h| h.id).collect();
        let known = |id: &&SnapshotId| {
            history.remembered.contains_key(*id) || linked.contains(*id)
        };
        let expected: BTreeSet<SnapshotId> = lost.iter().filter(known).copied().collect();
        let missed: BTreeSet<SnapshotId> = alarms.iter().filter_map(Alarm::snapshot).collect();
        prop_assert_eq!(missed, expected);
        history.look();
        prop_assert_eq!(history.alarms(), alarms.clone(), "nothing is forgotten by itself");
        history.acknowledge(&alarms);
        prop_assert_eq!(history.alarms(), []);
        history.look();
        prop_assert_eq!(history.alarms(), []);
    }

    /// An older state is shown: whatever was seen and is not in it is missed.
    #[test]
    fn an_older_state_is_seen(before in vec(step(), 0..40), after in vec(step(), 0..40)) {
        let old = History::after(&before);
        let mut new = old.clone();
        after.iter().for_each(|step| new.step(step));
        new.look();
        let shown = History { remembered: new.remembered.clone(), ..old };
        let known = shown.counted();
        let is_new = new.counted().iter().any(|id| !known.contains(id));
        prop_assert_eq!(shown.alarms().is_empty(), !is_new);
    }

    /// The same name, other content: seen by who saw it, and by the ones after it.
    #[test]
    fn another_content_is_seen(steps in vec(step(), 0..60), n in any::<usize>()) {
        let mut history = History::after(&steps);
        history.look();
        if !history.records.is_empty() {
            let at = n % history.records.len();
            history.records[at].hash = [0xff; 32];
            let head = history.records[at].id;
            let alarms = history.alarms();
            prop_assert!(matches!(&alarms[..], [Alarm::Changed(changed)] if changed.id == head));
        }
    }
}

fn numbered(id: u8, number: u64) -> SnapshotRecord {
    let snapshot = Snapshot { number, ..Snapshot::default() };
    SnapshotRecord { id: SnapshotId([id; 32]), snapshot, note: None, hash: [id; 32] }
}

fn gaps_of(records: &[SnapshotRecord], forgotten: &[Place]) -> Vec<(u64, u64)> {
    let counted = records.iter().map(|record| record.id).collect();
    let alarms = judge(records, &counted, &BTreeMap::new(), forgotten);
    let gap = |alarm: &Alarm| match alarm {
        Alarm::Gap { first, last, .. } => (*first, *last),
        other => panic!("{other}"),
    };
    alarms.iter().map(gap).collect()
}

#[test]
fn numbers_that_nobody_has_are_a_gap() {
    let line = [numbered(1, 3), numbered(2, 4), numbered(3, 9)];
    assert_eq!(gaps_of(&line, &[]), [(1, 2), (5, 8)]);
    let place = |number| (SnapshotId([8; 32]), ClientId::default(), number);
    assert_eq!(gaps_of(&line, &[place(2), place(7), place(30)]), [(1, 1), (5, 6), (8, 8)]);
    assert_eq!(gaps_of(&[numbered(1, 0)], &[]), [], "not numbered");
    assert_eq!(gaps_of(&[numbered(1, u64::MAX)], &[]), [(1, u64::MAX - 1)]);
    let mut copy = numbered(1, 7);
    copy.snapshot.original = Some(SnapshotId([9; 32]));
    assert_eq!(gaps_of(&[copy], &[]), [], "a copy is in no line");
}

#[test]
fn what_is_there_and_cannot_be_read_is_not_missing() {
    let mut history = History::default();
    for _ in 0..3 {
        history.step(&Step::Begin { client: 0, job: 0 });
        history.step(&Step::Commit(0));
    }
    history.look();
    let counted = history.counted();
    history.records.remove(2);
    history.records.remove(1);
    let alarms = |h: &History| judge(&h.records, &counted, &h.remembered, &h.forgotten);
    assert_eq!(alarms(&history), []);
    let before = history.remembered.clone();
    let none = BTreeSet::new();
    let after = to_remember(&history.records, &counted, &none, &before, &[]);
    assert!(before.keys().all(|id| after.contains_key(id)), "it is remembered until it is read");
}

#[test]
fn nobody_relies_on_what_a_prune_did_not_wait_for() {
    let records = [numbered(1, 1)];
    let all: BTreeSet<_> = [records[0].id].into();
    let (nothing, none) = (BTreeMap::new(), BTreeSet::new());
    assert_eq!(to_remember(&records, &all, &all, &nothing, &[]), nothing);
    assert_eq!(to_remember(&records, &all, &none, &nothing, &[]).len(), 1);
}
