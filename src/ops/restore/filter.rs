//! Which entries of a snapshot are restored.

use super::RestoreOptions;
use crate::source::Pattern;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Neither it nor what is below it.
    Skip,
    /// A directory in which something may be selected, but not itself.
    Through,
    /// It is restored.
    Take,
}

/// What is selected.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    /// The way from the root to the only thing that is wanted.
    only: &'a [&'a [u8]],
    include: &'a [Pattern],
    exclude: &'a [Pattern],
    taken: bool,
}

/// The last pattern that matches decides.
fn matches(patterns: &[Pattern], parent: &[u8], name: &[u8], is_directory: bool) -> bool {
    let last = patterns.iter().rev().find(|p| p.matches(parent, name, is_directory));
    last.is_some_and(|pattern| !pattern.is_negated())
}

impl<'a> Filter<'a> {
    /// For a walk that begins at the path `parts`, or, where paths are rebuilt, leads there.
    pub fn new(options: &'a RestoreOptions<'_>, parts: &'a [&'a [u8]]) -> Self {
        let include = options.include.as_slice();
        // What is above the start may be what the patterns name.
        let named = || {
            (0..parts.len()).any(|at| {
                let (above, name) = (&parts[..at], parts[at]);
                matches(include, &above.join(&b'/'), name, true)
            })
        };
        let only = if options.rebuild { parts } else { &[] };
        let taken = include.is_empty() || !options.rebuild && named();
        Self { only, include, exclude: &options.exclude, taken }
    }

    /// Whether everything below the start is selected, as far as `include` goes.
    pub fn takes_start(&self) -> bool {
        self.taken && self.only.is_empty()
    }

    /// What becomes of an entry that lies `depth` directories below the start, in the directory
    /// `parent` of the snapshot, which is `taken` itself or not.
    pub fn verdict(
        &self,
        depth: usize,
        parent: &[u8],
        taken: bool,
        name: &[u8],
        is_directory: bool,
    ) -> Verdict {
        let through = match is_directory {
            true => Verdict::Through,
            false => Verdict::Skip,
        };
        if let Some(only) = self.only.get(depth) {
            if *only != name {
                return Verdict::Skip;
            }
            // The directories above were asked for by name; patterns speak of what is below.
            if depth + 1 < self.only.len() {
                return through;
            }
        }
        if self.leaves_out(parent, name, is_directory) {
            return Verdict::Skip;
        }
        match taken || self.taken || matches(self.include, parent, name, is_directory) {
            true => Verdict::Take,
            false => through,
        }
    }

    /// Whether `exclude` speaks of it.
    pub fn leaves_out(&self, parent: &[u8], name: &[u8], is_directory: bool) -> bool {
        matches(self.exclude, parent, name, is_directory)
    }

    /// Whether `exclude` may speak of anything.
    pub fn leaves_anything_out(&self) -> bool {
        !self.exclude.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn what_is_included_comes_with_all_below_and_the_way_to_it() {
        let options = RestoreOptions {
            include: patterns(&["/home/u/docs", "*.txt", "!b.txt"]),
            exclude: patterns(&["cache", "*.tmp", "!keep.tmp"]),
            ..RestoreOptions::default()
        };
        let filter = Filter::new(&options, &[]);
        assert!(!filter.takes_start());
        let verdict = |parent: &str, taken, name: &str, is_directory| {
            let depth = parent.matches('/').count();
            filter.verdict(depth, parent.as_bytes(), taken, name.as_bytes(), is_directory)
        };
        assert_eq!(verdict("", false, "home", true), Verdict::Through);
        assert_eq!(verdict("/home/u", false, "docs", true), Verdict::Take);
        assert_eq!(verdict("/home/u/docs", true, "any", false), Verdict::Take);
        assert_eq!(verdict("/home/u", false, "any", false), Verdict::Skip);
        assert_eq!(verdict("/home/u", false, "a.txt", false), Verdict::Take);
        assert_eq!(verdict("/home/u", false, "b.txt", false), Verdict::Skip);
        assert_eq!(verdict("/home/u/docs", true, "cache", true), Verdict::Skip);
        assert_eq!(verdict("/home/u/docs", true, "x.tmp", false), Verdict::Skip);
        assert_eq!(verdict("/home/u/docs", true, "keep.tmp", false), Verdict::Take);
    }

    #[test]
    fn a_rebuilt_path_is_the_only_way() {
        let options = RestoreOptions { rebuild: true, ..RestoreOptions::default() };
        let parts: [&[u8]; 2] = [b"home", b"u"];
        let filter = Filter::new(&options, &parts);
        assert!(!filter.takes_start());
        assert_eq!(filter.verdict(0, b"", false, b"home", true), Verdict::Through);
        assert_eq!(filter.verdict(0, b"", false, b"etc", true), Verdict::Skip);
        assert_eq!(filter.verdict(1, b"/home", false, b"u", true), Verdict::Take);
        assert_eq!(filter.verdict(1, b"/home", false, b"v", true), Verdict::Skip);
        assert_eq!(filter.verdict(2, b"/home/u", true, b"x", false), Verdict::Take);
    }

    #[test]
    fn a_start_below_what_is_included_is_taken() {
        let include = patterns(&["/home"]);
        let options = RestoreOptions { include, ..RestoreOptions::default() };
        assert!(Filter::new(&options, &[b"home", b"u"]).takes_start());
        assert!(!Filter::new(&options, &[b"etc"]).takes_start());
    }
}
