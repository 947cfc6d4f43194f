//! The topics that a thread sent to last: most sends go where the one before went.
//!
//! Each thread remembers its own, so that a send to one of them takes no lock and counts no reference. What is remembered
//! holds for one version of its producer's table of topics.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_core::topic::Topic;

/// How many topics a thread remembers, over all producers.
const REMEMBERED: usize = 8;

/// Which sender's topic, in which version of its table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub sender: u64,
    pub version: u64,
}

struct Recent {
    table: Table,
    topic: Arc<Topic>,
}

thread_local! {
    /// The newest first.
    static RECENT: RefCell<Vec<Recent>> = const { RefCell::new(Vec::new()) };
}

/// A number that no other sender of this process has.
pub fn next_sender() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn find<'a>(recent: &'a [Recent], table: Table, name: &str) -> Option<&'a Arc<Topic>> {
    recent.iter().find(|recent| recent.table == table && *recent.topic.name == *name).map(|recent| &recent.topic)
}

/// Have `act` done with a topic: the remembered one if it is `wanted`, else what `look_up` brings.
#[inline(always)]
#[expect(clippy::inline_always, reason = "on the way of each record")]
pub fn with<T, E>(
    table: Table,
    name: &str,
    wanted: impl Fn(&Topic) -> bool,
    look_up: impl FnOnce() -> Result<Arc<Topic>, E>,
    act: impl FnOnce(&Topic) -> Result<T, E>,
) -> Result<T, E> {
    RECENT.with(|recent| {
        // Borrowed by a `remember` only while nothing of the user's runs, and by an outer send only as here.
        let mut list = recent.try_borrow().ok();
        let looked_up;
        let found = list.as_deref().and_then(|list| find(list, table, name)).filter(|topic| wanted(topic));
        let topic = if let Some(topic) = found {
            topic
        } else {
            list.take();
            looked_up = look_up()?;
            &looked_up
        };
        act(topic)
    })
}

/// The remembered topic, for those who keep it.
pub fn get(table: Table, name: &str) -> Option<Arc<Topic>> {
    RECENT.with(|recent| find(&recent.try_borrow().ok()?, table, name).cloned())
}

/// Remember a topic of a sender's newest table. Within a send that uses a remembered one it is forgotten again.
pub fn remember(table: Table, topic: &Arc<Topic>) {
    RECENT.with(|recent| {
        if let Ok(mut recent) = recent.try_borrow_mut() {
            // Older versions of its sender's topics hold no longer.
            recent.retain(|other| {
                other.table.sender != table.sender || (other.table == table && other.topic.name != topic.name)
            });
            recent.truncate(REMEMBERED - 1);
            recent.insert(0, Recent { table, topic: Arc::clone(topic) });
        }
    });
}
