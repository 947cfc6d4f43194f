//! `purge`: the application gives up records that were never sent.

use std::sync::Arc;

use super::Shared;
use crate::lane::batch::LINGER;
use crate::outcome::FailureKind;
use crate::topic::Topic;

impl Shared {
    /// Fail every record of `topic` (`None`: of all topics) that is buffered and was never sent, at once and on the
    /// caller's thread; returns how many they were. What was sent ends as it ends.
    ///
    /// A batch without sequence numbers can go from any lane in any state: nothing depends on it.
    pub fn purge(&self, topic: Option<&str>) -> u64 {
        let topics: Vec<Arc<Topic>> = match topic {
            Some(name) => self.topics.entry(name).topic.into_iter().collect(),
            None => self.topics.all(),
        };
        let mut records = 0;
        for lane in topics.iter().flat_map(|topic| &topic.lanes) {
            let mut inner = lane.inner.lock();
            let now_us = self.clock.now_us();
            for batch in inner.purge() {
                records += u64::from(batch.live());
                let failure = batch.failure(FailureKind::Purged, 0, String::new(), now_us);
                self.finish_failed(batch, LINGER, failure);
            }
            lane.publish_load(&inner);
        }
        records
    }
}
