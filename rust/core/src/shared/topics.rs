//! The table of topics: the newest snapshot of each, or the error in its place, and the waits for a change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::boundary::Trouble;
use crate::event_loop::{LoopToken, Notice, Notices};
use crate::stats::WaitTime;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, Rank};
use crate::topic::Topic;

/// The last metadata answer about a topic, if it was an error.
#[derive(Clone, Debug)]
pub struct TopicError {
    /// The error.
    pub trouble: Trouble,
    /// Waiting is pointless.
    pub is_final: bool,
}

/// A topic by name.
#[derive(Clone, Debug, Default)]
pub struct TopicEntry {
    /// The newest snapshot.
    pub topic: Option<Arc<Topic>>,
    /// The last error in place of a snapshot.
    pub error: Option<TopicError>,
    /// How many errors there were: an error from before a call began may be out of date.
    pub errors: u64,
}

/// See the module.
#[derive(Debug)]
pub struct TopicTable {
    state: Mutex<Table>,
    changed: Condvar,
    /// Grows with every change of the table, so that callers may keep a snapshot until it does. Changed under the lock.
    version: AtomicU64,
    /// Time that senders spent waiting for metadata.
    pub waited: WaitTime,
}

#[derive(Debug, Default)]
struct Table {
    /// Ordered, so that a run that is stepped by hand can be repeated.
    by_name: BTreeMap<Arc<str>, TopicEntry>,
    status: Trouble,
    /// Posted with the next change of the table.
    notices: Vec<Notice>,
}

impl TopicTable {
    /// No topic.
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::ranked(Rank::Topics, Table::default()),
            changed: Condvar::new(),
            version: AtomicU64::new(1),
            waited: WaitTime::default(),
        }
    }

    /// The entry of a topic; an empty one if there is none.
    pub fn entry(&self, name: &str) -> TopicEntry {
        self.state.lock().by_name.get(name).cloned().unwrap_or_default()
    }

    /// Every topic that has a snapshot.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.state.lock().by_name.values().filter_map(|entry| entry.topic.clone()).collect()
    }

    /// The table's version.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Change the entry of one topic; `None` removes it.
    pub fn update(&self, name: &str, change: impl FnOnce(TopicEntry) -> Option<TopicEntry>) {
        let mut table = self.state.lock();
        let (key, entry) = table.by_name.remove_entry(name).unwrap_or_else(|| (name.into(), TopicEntry::default()));
        if let Some(entry) = change(entry) {
            table.by_name.insert(key, entry);
        }
        self.notify(table);
    }

    /// End all waits: the callers check whether the producer is closed or has failed.
    pub(super) fn end_waits(&self) {
        self.notify(self.state.lock());
    }

    fn notify(&self, mut table: MutexGuard<'_, Table>) {
        // Under the lock: a waiter between its check and its wait would miss the change otherwise.
        self.version.fetch_add(1, Ordering::Release);
        let due = Notices(std::mem::take(&mut table.notices));
        drop(table);
        self.changed.notify_all();
        due.post();
    }

    /// Wait until the table changes from version `seen`, at most until `deadline`.
    pub fn wait(&self, seen: u64, deadline: Instant) {
        let mut table = self.state.lock();
        self.changed.wait_while(&mut table, Some(deadline), |_| self.version() == seen);
    }

    /// Have `notice` posted when the table changes from version `seen`. False: it has changed.
    pub fn add_notice(&self, seen: u64, notice: &Notice) -> bool {
        let mut table = self.state.lock();
        let same = self.version() == seen;
        if same {
            table.notices.push(notice.clone());
        }
        same
    }

    /// Take a notice back. False: it was posted.
    pub fn take_notice(&self, token: LoopToken) -> bool {
        let mut table = self.state.lock();
        let before = table.notices.len();
        table.notices.retain(|notice| notice.token != token);
        table.notices.len() < before
    }

    /// Why there is no metadata, human-readable; empty if there is metadata.
    pub fn status(&self) -> Trouble {
        self.state.lock().status.clone()
    }

    /// Set [`TopicTable::status`].
    pub fn set_status(&self, status: Trouble) {
        self.state.lock().status = status;
    }

    /// ms since the last append, by topic.
    pub fn ages(&self, now_us: u64) -> Vec<(Arc<str>, u64)> {
        let age = |topic: &Arc<Topic>| {
            let last = topic.state.last_append_us.load(Ordering::Relaxed);
            (Arc::clone(&topic.name), now_us.saturating_sub(last) / 1000)
        };
        self.all().iter().map(age).collect()
    }
}
