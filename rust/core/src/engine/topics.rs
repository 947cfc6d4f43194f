//! Topic snapshots: lanes and their leaders; topics that are forgotten and come back.

use std::sync::Arc;

use super::Engine;
use crate::boundary::PartitionLeader;
use crate::io::transport::Transport;
use crate::lane::Lane;
use crate::lane::fate::TopicId;
use crate::shared::TopicEntry;
use crate::topic::{BrokerHealth, Leader, Topic, TopicState};

impl<T: Transport> Engine<T> {
    pub(super) fn set_topic(
        &mut self,
        name: &str,
        id: TopicId,
        version: u64,
        leaders: &[PartitionLeader],
        now_us: u64,
    ) {
        let entry = self.shared.topics.entry(name);
        if entry.topic.as_ref().is_some_and(|known| known.version >= version) {
            return;
        }
        let (key, mut lanes, state) = if let Some(known) = &entry.topic {
            if known.id != id {
                known.state.forget_refused();
            }
            (Arc::clone(&known.name), known.lanes.clone(), Arc::clone(&known.state))
        } else {
            let seed = self.shared.config.seed ^ self.lanes.len() as u64;
            (name.into(), self.revive(name), TopicState::new(seed, now_us))
        };
        // A topic never loses partitions. One that was deleted and made again with fewer keeps the lanes without a
        // leader, so that their records fail by their deadline, with a reason. No new record is sent to them.
        while lanes.len() < leaders.len() {
            let lane = Lane::new(self.lanes.len() as u32, Arc::clone(&key), lanes.len() as i32);
            self.lanes.push(Arc::clone(&lane));
            lanes.push(lane);
        }
        let mut snapshot = Vec::with_capacity(lanes.len());
        let none = PartitionLeader { leader: -1, leader_epoch: -1, local: false };
        for (partition, lane) in lanes.iter().enumerate() {
            let newest = leaders.get(partition).copied().unwrap_or(none);
            let health = self.health(newest.leader);
            snapshot.push(Leader { id: newest.leader, local: newest.local, health });
            let mut inner = lane.inner.lock();
            if inner.set_target(newest.leader, newest.leader_epoch, id) {
                self.enter_topic(&mut inner, now_us);
            }
            drop(inner);
            self.after_answer(lane, now_us);
        }
        let partitions = leaders.len() as u32;
        let topic = Topic { name: key, id, version, partitions, lanes, leaders: snapshot, state };
        self.shared
            .topics
            .update(name, |entry| Some(TopicEntry { topic: Some(Arc::new(topic)), error: None, ..entry }));
    }

    /// The lanes of a topic that was forgotten; none if it is a new one.
    fn revive(&mut self, name: &str) -> Vec<Arc<Lane>> {
        let lanes = self.retired.remove(name).unwrap_or_default();
        for lane in &lanes {
            lane.revive();
        }
        lanes
    }

    /// Shared by all snapshots of the topics that a broker leads. -1 is no broker: a partition without a leader has a
    /// health of its own.
    fn health(&mut self, leader: i32) -> Arc<BrokerHealth> {
        if leader < 0 {
            return Arc::default();
        }
        Arc::clone(&self.brokers.entry(leader).or_default().health)
    }

    pub(super) fn forget_topic(&mut self, name: &str) {
        let Some(topic) = self.shared.topics.entry(name).topic else {
            self.shared.topics.update(name, |_| None);
            return;
        };
        // Retired first, removed after: a sender that still has the snapshot finds a retired lane and requests the
        // topic again.
        let retired = topic.lanes.iter().take_while(|lane| lane.retire()).count();
        if retired < topic.lanes.len() {
            for lane in &topic.lanes[..retired] {
                lane.revive();
            }
            return;
        }
        self.retired.insert(Arc::clone(&topic.name), topic.lanes.clone());
        self.shared.topics.update(name, |_| None);
        self.leader_wanted.remove(name);
    }
}
