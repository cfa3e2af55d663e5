//! Epochs: prunes, from plan to done. Format: `format-spec/11-sessions.md#epochs`.

use super::Result;
use super::codec::{Put, Take};
use crate::id::{PackId, SnapshotId};
use crate::limits;

/// The steps of an epoch that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochStep {
    /// What is condemned.
    Plan,
    /// What is rescued; the rest is dead.
    Sweep,
    /// Every dead pack is gone.
    Done,
}

/// Key of a step of an epoch; numbers start at 1 and have sixteen digits.
pub fn epoch_key(number: u64, step: EpochStep) -> String {
    let name = match step {
        EpochStep::Plan => "plan",
        EpochStep::Sweep => "sweep",
        EpochStep::Done => "done",
    };
    format!("epochs/{number:016}/{name}")
}

/// The epoch and step that lie under a key.
pub fn epoch_of_key(key: &str) -> Option<(u64, EpochStep)> {
    let (number, name) = key.strip_prefix("epochs/")?.split_once('/')?;
    let step = match name {
        "plan" => EpochStep::Plan,
        "sweep" => EpochStep::Sweep,
        "done" => EpochStep::Done,
        _ => return None,
    };
    let number = number.parse().ok()?;
    (number > 0 && epoch_key(number, step) == key).then_some((number, step))
}

/// What an epoch condemns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Packs to be removed unless rescued, in order.
    pub condemned: Vec<PackId>,
    /// Snapshots whose needs were looked at, in order.
    pub marked: Vec<SnapshotId>,
}

impl Plan {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_packs(&mut out, &self.condemned);
        out.put_varint(self.marked.len() as u64);
        self.marked.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
        out
    }

    /// What is condemned and not rescued, in order.
    pub fn dead(&self, sweep: &Sweep) -> Vec<PackId> {
        let mut rescued = sweep.rescued.clone();
        rescued.sort_unstable();
        let mut dead = self.condemned.clone();
        dead.retain(|id| rescued.binary_search(id).is_err());
        dead.sort_unstable();
        dead.dedup();
        dead
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut take = Take::new(payload);
        let condemned = take_packs(&mut take)?;
        let count = take.count(limits::EPOCH_PACKS_MAX, "number of snapshots")?;
        let marked = (0..count).map(|_| take.array("snapshot id").map(SnapshotId));
        let marked = marked.collect::<Result<_>>()?;
        Ok(Self { condemned, marked })
    }
}

/// What an epoch rescues from its plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Packs that stay, in order.
    pub rescued: Vec<PackId>,
}

impl Sweep {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_packs(&mut out, &self.rescued);
        out
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        Ok(Self { rescued: take_packs(&mut Take::new(payload))? })
    }
}

fn put_packs(out: &mut Vec<u8>, packs: &[PackId]) {
    out.put_varint(packs.len() as u64);
    packs.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
}

fn take_packs(take: &mut Take<'_>) -> Result<Vec<PackId>> {
    let count = take.count(limits::EPOCH_PACKS_MAX, "number of packs")?;
    (0..count).map(|_| take.array("pack id").map(PackId)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let condemned = vec![PackId([1; 32]), PackId([2; 32])];
        let plan = Plan { condemned: condemned.clone(), marked: vec![SnapshotId([3; 32])] };
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
        let sweep = Sweep { rescued: condemned };
        assert_eq!(Sweep::decode(&sweep.encode()), Ok(sweep));
        assert!(Plan::decode(&[255, 255, 255, 255, 1]).is_err());
    }

    #[test]
    fn keys_there_and_back() {
        for step in [EpochStep::Plan, EpochStep::Sweep, EpochStep::Done] {
            assert_eq!(epoch_of_key(&epoch_key(42, step)), Some((42, step)));
        }
        assert_eq!(epoch_of_key("epochs/42/plan"), None);
        assert_eq!(epoch_of_key("epochs/0000000000000000/plan"), None);
        assert_eq!(epoch_of_key("epochs/0000000000000042/other"), None);
    }
}
