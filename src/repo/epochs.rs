//! Epochs as they are stored. Format: `format-spec/11-sessions.md#epochs`.

use std::collections::BTreeMap;

use super::{RepoError, Repository};
use crate::format::envelope::ObjectType;
use crate::format::epoch::{EpochStep, Plan, Sweep, epoch_key, epoch_of_key};
use crate::limits;
use crate::object::ObjectError;

/// How far an epoch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochState {
    /// Its plan is published.
    Planned(Plan),
    /// What is dead is decided.
    Sweeping(Plan, Sweep),
    /// A record of it does not open, so nobody can tell what it condemns.
    Unreadable {
        /// What is dead is decided: somebody may be deleting it.
        decided: bool,
        /// The record.
        key: String,
        /// Why it does not open; `None`: it is missing.
        source: Option<ObjectError>,
    },
    /// Every dead pack is gone.
    Done,
}

/// The highest epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// How far it is.
    pub state: EpochState,
}

impl Repository {
    /// Which steps of which epochs are there.
    pub fn list_epochs(&self) -> Result<BTreeMap<u64, Vec<EpochStep>>, RepoError> {
        let mut epochs: BTreeMap<u64, Vec<EpochStep>> = BTreeMap::new();
        self.storage().list("epochs/", &mut |listed| {
            if let Some((number, step)) = epoch_of_key(&listed.key) {
                epochs.entry(number).or_default().push(step);
            }
        })?;
        Ok(epochs)
    }

    /// The highest epoch, or none. What vanishes while it is read is listed again (W2).
    pub fn highest_epoch(&self) -> Result<Option<Epoch>, RepoError> {
        let mut seen = None;
        loop {
            let Some((number, steps)) = self.list_epochs()?.pop_last() else { return Ok(None) };
            if steps.contains(&EpochStep::Done) {
                return Ok(Some(Epoch { number, state: EpochState::Done }));
            }
            let state = match self.open_epoch(number, &steps) {
                Ok(Some(state)) => state,
                // Records of the highest epoch are never removed.
                Ok(None) if seen.as_ref() == Some(&(number, steps.clone())) => {
                    let (decided, key) = (true, epoch_key(number, EpochStep::Plan));
                    EpochState::Unreadable { decided, key, source: None }
                }
                Ok(None) => {
                    seen = Some((number, steps));
                    continue;
                }
                Err(RepoError::Object { key, source }) => {
                    let decided = steps.contains(&EpochStep::Sweep);
                    EpochState::Unreadable { decided, key, source: Some(source) }
                }
                Err(error) => return Err(error),
            };
            return Ok(Some(Epoch { number, state }));
        }
    }

    /// An epoch that has not ended; `None` when a record is not there any more.
    fn open_epoch(
        &self,
        number: u64,
        steps: &[EpochStep],
    ) -> Result<Option<EpochState>, RepoError> {
        let plan = self.epoch_record(number, EpochStep::Plan, ObjectType::Plan, Plan::decode)?;
        let Some(plan) = plan else { return Ok(None) };
        if !steps.contains(&EpochStep::Sweep) {
            return Ok(Some(EpochState::Planned(plan)));
        }
        let sweep =
            self.epoch_record(number, EpochStep::Sweep, ObjectType::Sweep, Sweep::decode)?;
        Ok(sweep.map(|sweep| EpochState::Sweeping(plan, sweep)))
    }

    /// A step's record, or `None` when it is not there any more.
    fn epoch_record<T>(
        &self,
        number: u64,
        step: EpochStep,
        kind: ObjectType,
        decode: impl Fn(&[u8]) -> crate::format::Result<T>,
    ) -> Result<Option<T>, RepoError> {
        let key = epoch_key(number, step);
        let object = match self.storage().get(&key, limits::OBJECT_LEN_MAX as u64) {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_damage() => {
                return Err(RepoError::Object { key, source: ObjectError::Unreadable });
            }
            Err(error) => return Err(error.into()),
        };
        let opened = self.sealer().open(kind, &key, object);
        let record = opened.and_then(|payload| decode(&payload).map_err(ObjectError::from));
        record.map(Some).map_err(|source| RepoError::Object { key, source })
    }

    /// Stores a step's record. `false`: somebody else's is there, and is to be obeyed.
    pub fn put_epoch(
        &self,
        number: u64,
        step: EpochStep,
        payload: &[u8],
    ) -> Result<bool, RepoError> {
        let key = epoch_key(number, step);
        let kind = match step {
            EpochStep::Plan => ObjectType::Plan,
            EpochStep::Sweep => ObjectType::Sweep,
            EpochStep::Done => ObjectType::Done,
        };
        let object = self
            .sealer()
            .seal(self.world(), kind, &key, payload)
            .map_err(|source| RepoError::Object { key: key.clone(), source })?;
        match self.storage().put(&key, &[&object]) {
            Ok(()) => Ok(true),
            Err(error) if error.kind == crate::storage::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
