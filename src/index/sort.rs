//! Sorting more rows than memory should hold. Rows begin with bytes of ids, which are as good as
//! random: by the first of them they fall into parts of about the same size, each small enough to
//! be sorted at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::slice::ParallelSliceMut;

/// Bytes of a row.
pub(super) const ROW_LEN: usize = 30;

pub(super) type Row = [u8; ROW_LEN];

/// One for each value of a row's first byte.
const PARTS: usize = 256;
/// So many rows of a part are kept in memory, some four megabytes in all parts.
const BLOCK_ROWS: usize = 512;
const BLOCK_LEN: usize = BLOCK_ROWS * ROW_LEN;

#[derive(Default)]
struct Part {
    rows: Vec<Row>,
    /// Which blocks of the file it has.
    blocks: Vec<u32>,
}

/// Takes rows in any order and gives them back in that of their bytes.
pub(super) struct Sorter {
    directory: PathBuf,
    parts: Vec<Part>,
    /// A file without a name, once there is more than memory should hold.
    file: Option<File>,
    block_count: u32,
    row_count: u64,
}

impl Sorter {
    /// Puts what does not fit in memory into the directory.
    pub fn new(directory: &Path) -> Self {
        let parts = std::iter::repeat_with(Part::default).take(PARTS).collect();
        Self { directory: directory.into(), parts, file: None, block_count: 0, row_count: 0 }
    }

    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    pub fn push(&mut self, row: Row) -> io::Result<()> {
        self.row_count += 1;
        let part = &mut self.parts[usize::from(row[0])];
        part.rows.push(row);
        if part.rows.len() < BLOCK_ROWS {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.directory)?),
        };
        let start = u64::from(self.block_count) * BLOCK_LEN as u64;
        file.write_all_at(part.rows.as_flattened(), start)?;
        part.blocks.push(self.block_count);
        part.rows.clear();
        self.block_count += 1;
        Ok(())
    }

    /// The rows, in order; some of them at once.
    pub fn sorted(self) -> impl Iterator<Item = io::Result<Vec<Row>>> {
        let file = self.file;
        self.parts.into_iter().map(move |part| {
            let mut rows = vec![[0; ROW_LEN]; part.blocks.len() * BLOCK_ROWS];
            for (block, rows) in part.blocks.iter().zip(rows.chunks_exact_mut(BLOCK_ROWS)) {
                if let Some(file) = &file {
                    file.read_exact_at(
                        rows.as_flattened_mut(),
                        u64::from(*block) * BLOCK_LEN as u64,
                    )?;
                }
            }
            rows.extend(part.rows);
            rows.par_sort_unstable();
            Ok(rows)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_order_from_memory_and_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        for count in [0u32, 1_000, 300_000] {
            let mut sorter = Sorter::new(directory.path());
            let mut expected = Vec::new();
            for number in 0..count {
                let mut row = [0; ROW_LEN];
                row.copy_from_slice(&blake3::hash(&(number / 2).to_le_bytes()).as_bytes()[..30]);
                expected.push(row);
                sorter.push(row).unwrap();
            }
            assert_eq!(sorter.file.is_some(), count > 200_000);
            assert_eq!(sorter.row_count(), u64::from(count));
            expected.sort_unstable();
            let found: Vec<Row> = sorter.sorted().flat_map(Result::unwrap).collect();
            assert!(found == expected);
        }
    }
}
