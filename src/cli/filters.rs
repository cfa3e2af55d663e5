//! Which snapshots, and which part of one: what several commands share.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::context::Context;
use super::error::Result;
use super::progress::Reporter;
use crate::calendar;
use crate::ops::select::{self, Filter};
use crate::repo::{Repository, SnapshotRecord};
use crate::text;

/// Narrows which snapshots are meant.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which snapshots")]
pub struct FilterArgs {
    /// Only those of this machine (may be given several times)
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Only those that were asked for this path (several: for all of them)
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Only those with all of these tags (several lists: with those of any)
    #[arg(long, value_name = "TAG[,TAG…]")]
    tag: Vec<String>,
    /// Only those of this job (may be given several times)
    #[arg(long, value_name = "NAME")]
    job: Vec<String>,
}

impl FilterArgs {
    /// What they mean.
    pub fn filter(&self) -> Filter {
        Filter {
            hosts: self.host.clone(),
            paths: self.path.iter().map(|path| absolute(path)).collect(),
            tags: self.tag.iter().map(|list| tags(list)).collect(),
            jobs: self.job.clone(),
        }
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.filter().is_empty()
    }
}

/// A path from the root, without `.`, `..` and the slash at its end. What `..` means after a link
/// only the system knows, so it is asked.
pub fn absolute(path: &Path) -> Vec<u8> {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parts: Vec<Component<'_>> = full.components().collect();
    let dots = parts.iter().rposition(|part| *part == Component::ParentDir);
    let (dotted, rest) = parts.split_at(dots.map_or(0, |at| at + 1));
    let dotted: PathBuf = dotted.iter().collect();
    let mut clean = dotted.canonicalize().unwrap_or(dotted);
    clean.extend(rest);
    clean.into_os_string().into_vec()
}

/// Tags of a list with commas.
pub fn tags(list: &str) -> Vec<String> {
    let tags = list.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

/// SNAPSHOT or SNAPSHOT:PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPath {
    /// An id or how it begins, `latest`, `latest~2`.
    pub name: String,
    /// A path in it, raw, if one is named.
    pub path: Option<Vec<u8>>,
}

impl SnapshotPath {
    /// From an argument: the first colon separates.
    pub fn parse(text: &OsString) -> Self {
        let bytes = text.as_bytes();
        let (name, path) = match bytes.iter().position(|byte| *byte == b':') {
            Some(at) => (&bytes[..at], bytes.get(at + 1..)),
            None => (bytes, None),
        };
        let path = path.filter(|path| !path.is_empty()).map(<[u8]>::to_vec);
        // A name that is no text names nothing, and is told so with the signs in its place.
        Self { name: String::from_utf8_lossy(name).into_owned(), path }
    }

    /// The path, or the empty one that stands for everything.
    pub fn path(&self) -> &[u8] {
        self.path.as_deref().unwrap_or_default()
    }

    /// Finds the snapshot; says which one it is where the name does not.
    pub fn find(
        &self,
        repository: &Arc<Repository>,
        filter: &Filter,
        reporter: &Reporter,
        context: &Context,
    ) -> Result<SnapshotRecord> {
        let record = select::snapshot(repository, &self.name, filter, reporter)?;
        if self.name.starts_with("latest") {
            let time = calendar::show_time(record.snapshot.time, &context.zone);
            let host = text::escape(record.snapshot.host.as_bytes());
            let id = record.id.short();
            context.output.say(&format!("{} is snapshot {id} of {time}, host {host}", self.name));
        }
        Ok(record)
    }
}
