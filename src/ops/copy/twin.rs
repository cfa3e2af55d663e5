//! What was copied before: a tree or a content of the source next to its copy.

use crate::format::tree::{Entry, Ref, Refs};
use crate::ops::walk::Cursor;
use crate::tree::{Leaves, TreeReader};

/// A directory that was copied before, and its copy.
#[derive(Debug)]
pub(super) struct Twins {
    source: Half,
    copy: Half,
}

#[derive(Debug)]
struct Half {
    cursor: Cursor,
    next: Option<Entry>,
}

impl Half {
    /// The entry of this name, if there is one. Names are asked for in order. What is damaged is
    /// as good as not there: it is only not taken over then.
    fn find(&mut self, reader: &TreeReader, name: &[u8]) -> Option<Entry> {
        loop {
            match &self.next {
                Some(entry) if entry.name.as_slice() > name => return None,
                Some(entry) if entry.name == name => return self.next.take(),
                _ => {}
            }
            match self.cursor.next(reader)? {
                Ok(entry) => self.next = Some(entry),
                Err(_) => self.next = None,
            }
        }
    }
}

impl Twins {
    pub fn new(source: Refs, copy: Refs) -> Self {
        let half = |listing| Half { cursor: Cursor::new(listing), next: None };
        Self { source: half(source), copy: half(copy) }
    }

    /// The entry of this name and its copy, read with the readers of their repositories.
    pub fn find(
        &mut self,
        readers: (&TreeReader, &TreeReader),
        name: &[u8],
    ) -> Option<(Entry, Entry)> {
        let source = self.source.find(readers.0, name);
        let copy = self.copy.find(readers.1, name);
        Some((source?, copy?))
    }

    pub fn park(&mut self) {
        self.source.cursor.park();
        self.copy.cursor.park();
    }
}

/// A content that was copied before, and its copy, which is cut in the same places.
pub(super) struct TwinLeaves {
    source: Leaves,
    copy: Leaves,
    /// Where the current references begin, and which they are.
    start: u64,
    current: Option<(Ref, Ref)>,
}

impl TwinLeaves {
    pub fn new(readers: (&TreeReader, &TreeReader), source: &Refs, copy: &Refs) -> Self {
        let (source, copy) = (readers.0.leaves(source), readers.1.leaves(copy));
        let mut twins = Self { source, copy, start: 0, current: None };
        twins.advance();
        twins
    }

    fn advance(&mut self) {
        self.start = self.source.position();
        self.current = match (self.source.next(), self.copy.next()) {
            (Some(Ok(source)), Some(Ok(copy))) if source.len() == copy.len() => {
                Some((source, copy))
            }
            _ => None,
        };
    }

    /// The copy of a reference, if the same one stood in the same place. Places are asked for in
    /// order.
    pub fn copy_of(&mut self, start: u64, wanted: &Ref) -> Option<Ref> {
        while self.start < start && self.current.is_some() {
            self.advance();
        }
        let (source, copy) = self.current.filter(|_| self.start == start)?;
        (source == *wanted).then_some(copy)
    }
}
