//! The topics that a thread sent to last: most sends go to the same topic as the one before.
//!
//! Each thread remembers its own, so that a send to one of them takes no lock and counts no reference. An entry is valid
//! for one version of its producer's table of topics.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_core::topic::Topic;

/// How many topics a thread remembers, over all producers.
const REMEMBERED: usize = 8;

/// A version of a sender's table of topics.
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

/// A number for a sender, unique in this process.
pub fn next_sender() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn find<'a>(recent: &'a [Recent], table: Table, name: &str) -> Option<&'a Arc<Topic>> {
    recent.iter().find(|recent| recent.table == table && *recent.topic.name == *name).map(|recent| &recent.topic)
}

/// Have `act` done with a topic: the remembered one if it is `wanted`, else the one that `look_up` returns.
#[inline(always)]
#[expect(clippy::inline_always, reason = "on the path of each record")]
pub fn with<T, E>(
    table: Table,
    name: &str,
    wanted: impl Fn(&Topic) -> bool,
    look_up: impl FnOnce() -> Result<Arc<Topic>, E>,
    act: impl FnOnce(&Topic) -> Result<T, E>,
) -> Result<T, E> {
    RECENT.with(|recent| {
        // Exclusively borrowed only by `remember`, which runs no code of the application; shared by an outer send.
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

/// The remembered topic, to be kept.
pub fn get(table: Table, name: &str) -> Option<Arc<Topic>> {
    RECENT.with(|recent| find(&recent.try_borrow().ok()?, table, name).cloned())
}

/// Remember a topic of a sender's newest table. Within a send that uses a remembered topic this does nothing.
pub fn remember(table: Table, topic: &Arc<Topic>) {
    RECENT.with(|recent| {
        if let Ok(mut recent) = recent.try_borrow_mut() {
            // Older versions of its sender's topics are not valid any more.
            recent.retain(|other| {
                other.table.sender != table.sender || (other.table == table && other.topic.name != topic.name)
            });
            recent.truncate(REMEMBERED - 1);
            recent.insert(0, Recent { table, topic: Arc::clone(topic) });
        }
    });
}
