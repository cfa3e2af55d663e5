//! Which snapshots: options that several commands share.

use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::ops::select::Filter;

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
