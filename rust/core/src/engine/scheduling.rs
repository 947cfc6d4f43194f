//! Which lane sends next, to which broker, in which request.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Broker, Engine, Picked, Timers};
use crate::boundary::Event;
use crate::io::transport::Transport;
use crate::lane::readiness::NextStep;
use crate::lane::{Lane, LaneInner};
use crate::shared::Shared;
use crate::sync::atomic::Ordering;

/// After so many batches that do not fit, the request is full.
const MOST_TOO_LARGE: usize = 4;

/// Carry out the result of [`LaneInner::schedule`]. True: the lane belongs into a ready queue, which the caller does.
fn do_step(shared: &Shared, timers: &mut Timers, lane: &Arc<Lane>, inner: &mut LaneInner, step: NextStep) -> bool {
    match step {
        NextStep::Queue => return true,
        NextStep::Timer(at_us) => timers.push(Reverse((at_us, lane.id))),
        NextStep::Encode => shared.encoding.encode_head(lane, inner),
        NextStep::Nothing => {}
    }
    false
}

impl<T: Transport> Engine<T> {
    /// After a change that may concern every lane.
    pub(super) fn reconsider_all(&mut self, now_us: u64) {
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            self.reconsider(&lane, now_us);
        }
    }

    pub(super) fn run_timers(&mut self, now_us: u64) {
        while let Some(&Reverse((at_us, lane))) = self.timers.peek()
            && at_us <= now_us
        {
            self.timers.pop();
            let lane = Arc::clone(&self.lanes[lane as usize]);
            lane.inner.lock().timer_is_due();
            self.reconsider(&lane, now_us);
        }
    }

    /// Put a lane where it belongs now: a ready queue, a timer, or nowhere until something happens to it.
    pub(super) fn reconsider(&mut self, lane: &Arc<Lane>, now_us: u64) {
        let hurry = self.shared.hurry.is_on();
        let mut inner = lane.inner.lock();
        let step = inner.schedule(&self.shared.config.rules, now_us, hurry);
        if do_step(&self.shared, &mut self.timers, lane, &mut inner, step) {
            drop(inner);
            self.route(lane);
        }
    }

    /// Put a lane that can send into the ready queue of its leader.
    pub(super) fn route(&mut self, lane: &Arc<Lane>) {
        let leader = lane.inner.lock().leader();
        if leader < 0 {
            self.leaderless.push(Arc::clone(lane));
        } else {
            let broker = self.brokers.entry(leader).or_default();
            broker.ready.push_back(Arc::clone(lane));
            broker.health.set_ready_lanes(broker.ready.len());
        }
    }

    pub(super) fn ask_for_leaders(&mut self) {
        if self.leaderless.is_empty() {
            return;
        }
        let mut topics: Vec<String> = Vec::new();
        let mut left = Vec::new();
        for lane in std::mem::take(&mut self.leaderless) {
            if !lane.inner.lock().waits_for_leader() {
                continue; // it was routed again when the leader became known
            }
            let version = self.shared.topics.entry(&lane.topic).topic.map_or(0, |topic| topic.version);
            if self.leader_wanted.insert(Arc::clone(&lane.topic), version) != Some(version) {
                topics.push(lane.topic.to_string());
            }
            left.push(lane);
        }
        self.leaderless = left;
        if !topics.is_empty() {
            topics.sort();
            topics.dedup();
            self.shared.events.push(Event::LeaderWanted { topics });
        }
    }

    /// Send the batches that are ready for this broker.
    pub(super) fn drain(&mut self, id: i32, now_us: u64) {
        loop {
            let Some(broker) = self.brokers.get_mut(&id) else { return };
            if broker.ready.is_empty() {
                broker.health.stuck_since_us.store(0, Ordering::Relaxed);
                return;
            }
            let Some(connection) = broker.connection.and_then(|id| self.connections.get(&id)) else {
                // Lanes whose leader moved on are queued elsewhere by now, and need no connection here.
                broker.ready.retain(|lane| lane.inner.lock().is_queued_at(id));
                if broker.ready.is_empty() {
                    continue;
                }
                Self::stuck(broker, now_us);
                if !broker.wanted {
                    broker.wanted = true;
                    self.shared.events.push(Event::ConnectionWanted { broker_id: id });
                }
                return;
            };
            let config = &self.shared.config;
            if connection.throttled_until_us > now_us || connection.requests.len() >= connection.window {
                Self::stuck(broker, now_us);
                return;
            }
            if config.rules.idempotent && self.identity.is_none() {
                return;
            }
            broker.health.stuck_since_us.store(0, Ordering::Relaxed);
            let picked = self.pick(id, now_us);
            if picked.is_empty() {
                return;
            }
            self.send(id, picked, now_us);
        }
    }

    fn stuck(broker: &Broker, now_us: u64) {
        let since = &broker.health.stuck_since_us;
        if since.load(Ordering::Relaxed) == 0 {
            since.store(now_us.max(1), Ordering::Relaxed);
        }
    }

    /// One batch of each lane, as many as fit into max.request.size (the first one always does). A batch that does not
    /// fit into the rest does not keep smaller ones from going: it is among the first of the next request.
    fn pick(&mut self, id: i32, now_us: u64) -> Vec<Picked> {
        let shared = Arc::clone(&self.shared);
        let hurry = shared.hurry.is_on();
        let rules = &shared.config.rules;
        let mut picked: Vec<Picked> = Vec::new();
        let mut room = usize::MAX;
        let mut again = Vec::new();
        let mut too_large = Vec::new();
        self.request += 1;
        let Some(broker) = self.brokers.get_mut(&id) else { return picked };
        broker.health.set_ready_lanes(broker.ready.len());
        for _ in 0..broker.ready.len() {
            if too_large.len() >= MOST_TOO_LARGE {
                break;
            }
            let Some(lane) = broker.ready.pop_front() else { break };
            let mut inner = lane.inner.lock();
            if !inner.may_join(id, self.request) {
                continue;
            }
            let step = inner.reschedule(rules, now_us, hurry);
            if !do_step(&shared, &mut self.timers, &lane, &mut inner, step) {
                continue;
            }
            let Some(outgoing) = inner.take(self.identity, rules, room, now_us, self.request) else {
                drop(inner);
                too_large.push(lane);
                continue;
            };
            if shared.config.grows() && inner.codec_may_take_last(rules) {
                shared.encoding.encode_last(&lane, &mut inner);
            }
            lane.publish_load(&inner);
            let step = inner.reschedule(rules, now_us, hurry);
            if do_step(&shared, &mut self.timers, &lane, &mut inner, step) {
                again.push(Arc::clone(&lane));
            }
            drop(inner);
            let left = if room == usize::MAX { shared.config.max_request_size } else { room };
            room = left.saturating_sub(outgoing.sealed.size());
            picked.push(Picked { lane, outgoing });
        }
        // Fairness: lanes that were not reached come first next time, lanes that were go to the back.
        broker.ready.extend(again);
        for lane in too_large.into_iter().rev() {
            broker.ready.push_front(lane);
        }
        picked
    }

    /// For partitioner.availability.timeout.ms: brokers with so many unanswered requests that lanes cannot send.
    ///
    /// Such lanes are in no ready queue, so that `drain` does not see them (Java: a node that `canSendMore` refuses).
    pub(super) fn note_stuck(&self, now_us: u64) {
        let rules = &self.shared.config.rules;
        if self.shared.config.partitioning.availability_timeout_us == 0 {
            return;
        }
        for lane in &self.lanes {
            if let Some(leader) = lane.inner.lock().held_up_by(rules, now_us)
                && let Some(broker) = self.brokers.get(&leader)
            {
                Self::stuck(broker, now_us);
            }
        }
    }
}
