//! Work on many items by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Works on all items with several threads, in about their order. Each thread has memory of its
/// own for it.
pub(super) fn each_in_parallel<T: Sync, Memory: Default>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T, &mut Memory) + Sync,
) {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut memory = Memory::default();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item, &mut memory);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(take);
        }
        take();
    });
}
