//! What an installation remembers of a repository, in small files of its state directory.
//!
//! Several processes may read and replace a file at once. Each reads it again before it writes, and
//! keeps what others added; what is lost when two write in the same moment is memory, nothing else.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Up to `len_max` bytes of a file; nothing if it is not there or cannot be read, which is what
/// an installation that remembers nothing has.
pub(super) fn read(path: &Path, len_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(len_max).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

/// Replaces a file, whole or not at all; its directory is made where it is missing.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
