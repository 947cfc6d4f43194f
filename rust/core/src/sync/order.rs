//! The order of locks, checked in debug builds: two threads that take two locks in opposite orders deadlock rarely; a
//! thread that takes them in the wrong order panics every time.
//!
//! Not under loom, which finds deadlocks by itself, and whose threads share one real thread's memory.

/// The rank of a lock in the order in which locks may be nested: a thread that holds one may take only greater ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The table of topics.
    Topics,
    /// One partition's queue: never two at once.
    Lane,
    /// Unnoticed failures; completions are locked while one is noted.
    Unnoticed,
    /// Pool, completion, inbox, events, stats, callbacks, sticky partition: one at a time.
    #[default]
    Leaf,
    /// Below one of those by construction: a waiter of the pool, the child of a completion that was split.
    Nested,
    /// An event loop's inbox, and the table of its tokens: nothing is locked under them.
    Loop,
}

#[cfg(all(debug_assertions, not(feature = "models")))]
mod checked {
    use std::cell::RefCell;

    use super::Rank;

    thread_local! {
        /// The places that this thread holds, in the order of taking.
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// A lock's own place.
    #[derive(Debug, Default)]
    pub struct Place(Rank);

    /// A place that this thread has taken, until it is dropped.
    #[derive(Debug)]
    pub struct Held(Rank);

    impl Place {
        pub const fn new(rank: Rank) -> Self {
            Self(rank)
        }

        pub fn take(&self) -> Held {
            // A thread that ends may lock after its thread-locals are gone: there is nothing to check then.
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                let highest = held.iter().max().copied();
                assert!(highest.is_none_or(|highest| highest < self.0), "{:?} is locked under {held:?}", self.0);
                held.push(self.0);
            });
            Held(self.0)
        }
    }

    impl Held {
        /// A thread that waits with another lock held may block the thread that would end the wait.
        pub fn assert_alone(&self) {
            let _ = HELD.try_with(|held| assert_eq!(*held.borrow(), [self.0], "a wait with other locks held"));
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(at) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
    }
}

#[cfg(not(all(debug_assertions, not(feature = "models"))))]
mod unchecked {
    use super::Rank;

    #[derive(Debug, Default)]
    pub struct Place;

    #[derive(Debug)]
    pub struct Held;

    impl Place {
        #[inline]
        pub const fn new(_: Rank) -> Self {
            Self
        }

        #[inline]
        #[expect(clippy::unused_self, reason = "as its checked twin")]
        pub fn take(&self) -> Held {
            Held
        }
    }

    impl Held {
        #[inline]
        #[expect(clippy::unused_self, reason = "as its checked twin")]
        pub fn assert_alone(&self) {}
    }
}

#[cfg(all(debug_assertions, not(feature = "models")))]
pub use checked::{Held, Place};
#[cfg(not(all(debug_assertions, not(feature = "models"))))]
pub use unchecked::{Held, Place};

#[cfg(all(test, debug_assertions, not(feature = "models")))]
mod tests {
    use super::Rank;
    use crate::sync::{Condvar, Mutex};
    use std::time::Duration;

    #[test]
    fn locks_nest_from_topics_down_to_a_leaf() {
        let ranks = [Rank::Topics, Rank::Lane, Rank::Unnoticed, Rank::Leaf, Rank::Nested, Rank::Loop];
        let locks = ranks.map(|rank| Mutex::ranked(rank, ()));
        for _ in 0..2 {
            let mut held = locks.iter().map(Mutex::lock).collect::<Vec<_>>();
            // Released in any order: a free lock can be taken again.
            held.swap_remove(0);
            held.swap_remove(1);
        }
        let parent = Mutex::new(1);
        let child = Mutex::new(2);
        let (parent, child) = (parent.lock(), child.lock_nested());
        assert_eq!(*parent + *child, 3);
    }

    #[test]
    #[should_panic(expected = "Topics is locked under [Lane]")]
    fn the_table_of_topics_is_not_locked_under_a_lane() {
        let (topics, lane) = (Mutex::ranked(Rank::Topics, ()), Mutex::ranked(Rank::Lane, ()));
        let _lane = lane.lock();
        let _topics = topics.lock();
    }

    #[test]
    #[should_panic(expected = "Lane is locked under [Lane]")]
    fn two_lanes_are_not_locked_at_once() {
        let (one, other) = (Mutex::ranked(Rank::Lane, ()), Mutex::ranked(Rank::Lane, ()));
        let _one = one.lock();
        let _other = other.lock();
    }

    #[test]
    #[should_panic(expected = "a wait with other locks held")]
    fn a_wait_with_another_lock_held_is_refused() {
        let (lane, pool, granted) = (Mutex::ranked(Rank::Lane, ()), Mutex::new(()), Condvar::new());
        let _lane = lane.lock();
        let mut pool = pool.lock();
        granted.wait_for(&mut pool, Duration::ZERO);
    }
}
