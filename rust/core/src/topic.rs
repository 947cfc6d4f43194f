//! Topics: an immutable snapshot, its lanes, and the choice of a partition for a record.
//!
//! Keyed records go by murmur2. Records without a key stick to one partition until batch.size bytes went there, then
//! move to another, chosen at random or, adaptively, against the length of the lanes' queues (KIP-480, KIP-794; Java's
//! `BuiltInPartitioner`).

use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::PartitionRules;
use crate::lane::Lane;
use crate::sticky::{StickyBytes, StickyChoice};
use crate::wire::murmur2::partition_for_key;

/// Whether a broker takes the batches that are ready for it; for partitioner.availability.timeout.ms.
#[derive(Debug, Default)]
pub struct BrokerHealth {
    /// Since when a batch has been ready without being taken; 0: none is.
    pub stuck_since_us: AtomicU64,
    /// Lanes that are ready for it.
    ready_lanes: AtomicUsize,
    /// A fifth of the bytes that it acknowledged in the last second; 0: none.
    fifth_of_a_second: AtomicUsize,
}

/// Batches of this size and less are no burden for any link: five of them take 3 s at 1 Mbit/s.
const SMALL: usize = 64 * 1024;

impl BrokerHealth {
    /// Lanes that are ready for it.
    pub fn ready_lanes(&self) -> usize {
        self.ready_lanes.load(Ordering::Relaxed)
    }

    /// So many lanes are ready.
    pub fn set_ready_lanes(&self, lanes: usize) {
        self.ready_lanes.store(lanes, Ordering::Relaxed);
    }

    /// Bytes that five requests may have each, so that all of them take a second; `usize::MAX` if that is not known.
    pub fn fifth_of_a_second(&self) -> usize {
        match self.fifth_of_a_second.load(Ordering::Relaxed) {
            0 => usize::MAX,
            bytes => bytes.max(SMALL),
        }
    }

    /// `acknowledged`: bytes in the last second.
    pub fn set_pace(&self, acknowledged: u64) {
        self.fifth_of_a_second.store(usize::try_from(acknowledged / 5).unwrap_or(usize::MAX), Ordering::Relaxed);
    }
}

/// The leader of one partition.
#[derive(Clone, Debug)]
pub struct Leader {
    /// -1: none known.
    pub id: i32,
    /// In client.rack.
    pub local: bool,
    /// Of that broker.
    pub health: Arc<BrokerHealth>,
}

/// The state of a topic that outlives its snapshots.
#[derive(Debug)]
pub struct TopicState {
    /// The present [`StickyChoice`]. Changed under `random`'s lock, read without.
    sticky: AtomicU64,
    random: Mutex<fastrand::Rng>,
    /// For metadata.max.idle.ms.
    pub last_append_us: AtomicU64,
    /// Bytes of a batch on the wire that the topic accepts, as far as was learned; `usize::MAX`: nothing was.
    accepted_bytes: AtomicUsize,
}

impl TopicState {
    /// Fresh state whose choices come from `seed`.
    pub fn new(seed: u64, now_us: u64) -> Arc<Self> {
        Arc::new(Self {
            sticky: AtomicU64::new(StickyChoice::NONE.bits()),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            last_append_us: AtomicU64::new(now_us),
            accepted_bytes: AtomicUsize::new(usize::MAX),
        })
    }

    /// Bytes of a batch on the wire that the topic accepts, as far as was learned; `usize::MAX`: nothing was.
    pub fn accepted_bytes(&self) -> usize {
        self.accepted_bytes.load(Ordering::Relaxed)
    }

    /// A batch of `refused` bytes was too large, and one of `acknowledged` was not: the limit of the topic
    /// (max.message.bytes) is between them. Returns the size to try next.
    pub fn learn_refused(&self, refused: usize, acknowledged: usize) -> usize {
        let next = if acknowledged < refused { acknowledged.max(refused / 2) } else { refused / 2 };
        self.accepted_bytes.fetch_min(next.max(1), Ordering::Relaxed).min(next.max(1))
    }

    /// The topic was created again: its settings may be others.
    pub fn forget_refused(&self) {
        self.accepted_bytes.store(usize::MAX, Ordering::Relaxed);
    }
}

/// One topic, as one metadata answer showed it.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Zeros if the broker has no topic ids.
    pub id: [u8; 16],
    /// Of this snapshot.
    pub version: u64,
    /// How many partitions it has.
    pub partitions: u32,
    /// By partition number. Longer than `partitions` if the topic was created again with fewer.
    pub lanes: Vec<Arc<Lane>>,
    /// By partition number, as many as lanes.
    pub leaders: Vec<Leader>,
    /// Shared with earlier and later snapshots.
    pub state: Arc<TopicState>,
}

impl Topic {
    /// How many partitions are known.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The partition for a record, and the sticky choice if it is one (then call [`Topic::appended`]).
    #[inline]
    pub fn choose(
        &self,
        key: Option<&[u8]>,
        rules: &PartitionRules,
        now_us: impl Fn() -> u64,
    ) -> (u32, Option<StickyChoice>) {
        if let Some(key) = key
            && !rules.ignore_keys
        {
            return (partition_for_key(key, self.partitions()), None);
        }
        let mut choice = self.choice();
        if choice.partition() >= self.partitions() {
            choice = self.next_sticky(choice, rules, now_us);
        }
        (choice.partition(), Some(choice))
    }

    #[inline]
    fn choice(&self) -> StickyChoice {
        StickyChoice::from_bits(self.state.sticky.load(Ordering::Acquire))
    }

    /// `bytes` went to the sticky partition, and its lane counts them in `sent`; `grown`: its open batch has reached a
    /// multiple of batch.size. True: the choice is over, see [`Topic::end`].
    ///
    /// A switch in the middle of a batch would leave it half full, so up to twice batch.size may go before one is forced.
    #[inline]
    pub fn appended(
        &self,
        choice: StickyChoice,
        sent: &mut StickyBytes,
        bytes: usize,
        grown: bool,
        rules: &PartitionRules,
    ) -> bool {
        if self.choice() != choice {
            return false;
        }
        let sum = sent.add(choice, bytes);
        let due = sum >= rules.sticky_bytes;
        (due && grown) || sum >= rules.sticky_bytes.saturating_mul(2)
    }

    /// The lane of the sticky partition, which got `sent`, has no open batch that takes the next record: choose another
    /// partition if enough bytes went there. True: it did.
    ///
    /// This completes the switch that [`Topic::appended`] delayed because of a batch that was still open.
    pub fn leave(
        &self,
        choice: StickyChoice,
        sent: StickyBytes,
        rules: &PartitionRules,
        now_us: impl Fn() -> u64,
    ) -> bool {
        let due = self.choice() == choice && sent.of(choice) >= rules.sticky_bytes;
        if due {
            self.end(choice, rules, now_us);
        }
        due
    }

    /// Choose another partition, unless another thread has.
    pub fn end(&self, choice: StickyChoice, rules: &PartitionRules, now_us: impl Fn() -> u64) {
        self.next_sticky(choice, rules, now_us);
    }

    /// The choice after `before`, unless another thread has drawn it.
    #[cold]
    fn next_sticky(&self, before: StickyChoice, rules: &PartitionRules, now_us: impl Fn() -> u64) -> StickyChoice {
        let mut random = self.state.random.lock();
        let now = self.choice();
        if now != before && now.partition() < self.partitions() {
            return now;
        }
        let choice = now.next(self.draw(&mut random, rules, now_us()));
        self.state.sticky.store(choice.bits(), Ordering::Release);
        choice
    }

    fn draw(&self, random: &mut fastrand::Rng, rules: &PartitionRules, now_us: u64) -> u32 {
        let healthy = |leader: &Leader| {
            let stuck = leader.health.stuck_since_us.load(Ordering::Relaxed);
            rules.availability_timeout_us == 0
                || stuck == 0
                || now_us.saturating_sub(stuck) <= rules.availability_timeout_us
        };
        let candidates = |wanted: &dyn Fn(&Leader) -> bool| -> Vec<u32> {
            (0..self.partitions()).filter(|&p| wanted(&self.leaders[p as usize])).collect()
        };
        let mut choice = Vec::new();
        if rules.rack_aware {
            choice = candidates(&|leader| leader.id >= 0 && leader.local && healthy(leader));
        }
        if choice.is_empty() {
            choice = candidates(&|leader| leader.id >= 0 && healthy(leader));
        }
        if choice.is_empty() {
            choice = candidates(&|leader| leader.id >= 0);
        }
        if choice.is_empty() {
            choice = (0..self.partitions()).collect();
        }
        if !rules.adaptive {
            return choice[random.usize(..choice.len())];
        }
        // The longer the queue, the smaller the share: weight = longest + 1 - own (KIP-794).
        let loads: Vec<u64> =
            choice.iter().map(|&p| u64::from(self.lanes[p as usize].load.load(Ordering::Relaxed))).collect();
        let longest = loads.iter().copied().max().unwrap_or(0);
        let total: u64 = loads.iter().map(|load| longest + 1 - load).sum();
        let mut point = random.u64(..total.max(1));
        for (position, load) in loads.iter().enumerate() {
            let weight = longest + 1 - load;
            if point < weight {
                return choice[position];
            }
            point -= weight;
        }
        choice[choice.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PartitionRules = PartitionRules {
        ignore_keys: false,
        adaptive: true,
        availability_timeout_us: 0,
        rack_aware: false,
        sticky_bytes: 100,
    };

    fn topic(leaders: &[(i32, bool)]) -> Topic {
        let name: Arc<str> = "t".into();
        Topic {
            lanes: (0..leaders.len()).map(|p| Lane::new(p as u32, Arc::clone(&name), p as i32)).collect(),
            leaders: leaders
                .iter()
                .map(|&(id, local)| Leader { id, local, health: Arc::new(BrokerHealth::default()) })
                .collect(),
            partitions: leaders.len() as u32,
            name,
            id: [0; 16],
            version: 1,
            state: TopicState::new(7, 0),
        }
    }

    fn shares(topic: &Topic, rules: &PartitionRules, draws: usize) -> Vec<usize> {
        let mut counts = vec![0; topic.lanes.len()];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..draws {
            counts[topic.draw(&mut random, rules, 1_000_000) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_partition_sticks_until_its_bytes_are_spent_and_its_batch_is_closed() {
        let topic = topic(&[(1, false); 50]);
        let choice = || topic.choose(None, &RULES, || 0).1.unwrap();
        let (first, mut sent) = (choice(), StickyBytes::default());
        assert!(!topic.appended(first, &mut sent, 150, false, &RULES), "its batch is still open");
        assert!(topic.appended(first, &mut sent, 1, true, &RULES));
        topic.end(first, &RULES, || 0);
        let second = choice();
        assert_ne!(first.partition(), second.partition());
        topic.end(first, &RULES, || 0);
        assert_eq!(choice(), second, "that one has ended before");
        assert!(!topic.appended(first, &mut sent, 150, true, &RULES), "late bytes do not count");
        assert!(!topic.leave(second, sent, &RULES, || 0), "those were bytes under another choice");
        let mut sent = StickyBytes::default();
        assert!(topic.appended(second, &mut sent, 200, false, &RULES), "twice the bytes force a switch");
        assert!(topic.leave(second, sent, &RULES, || 0));
        assert_ne!(choice().partition(), second.partition());
    }

    #[test]
    fn keys_decide_unless_they_are_ignored() {
        let topic = topic(&[(1, false); 6]);
        assert_eq!(topic.choose(Some(b"foobar"), &RULES, || 0), (partition_for_key(b"foobar", 6), None));
        let ignoring = PartitionRules { ignore_keys: true, ..RULES };
        assert!(topic.choose(Some(b"foobar"), &ignoring, || 0).1.is_some());
    }

    #[test]
    fn long_queues_get_a_small_share() {
        let topic = topic(&[(1, false), (1, false), (1, false)]);
        topic.lanes[0].load.store(3, Ordering::Relaxed);
        topic.lanes[1].load.store(1, Ordering::Relaxed);
        let counts = shares(&topic, &RULES, 8_000);
        // weights 1, 3, 4
        assert!((counts[0] as i64 - 1_000).abs() < 200, "{counts:?}");
        assert!((counts[2] as i64 - 4_000).abs() < 300, "{counts:?}");
        let even = shares(&topic, &PartitionRules { adaptive: false, ..RULES }, 9_000);
        assert!(even.iter().all(|&count| (count as i64 - 3_000).abs() < 300), "{even:?}");
    }

    #[test]
    fn leaderless_and_stuck_and_distant_partitions_are_avoided_while_others_exist() {
        let topic = topic(&[(-1, false), (1, false), (2, true)]);
        assert_eq!(shares(&topic, &RULES, 100)[0], 0);
        let near = PartitionRules { rack_aware: true, ..RULES };
        assert_eq!(shares(&topic, &near, 100), [0, 0, 100]);
        topic.leaders[2].health.stuck_since_us.store(1, Ordering::Relaxed);
        let patient = PartitionRules { availability_timeout_us: 500_000, ..near };
        assert_eq!(shares(&topic, &patient, 100), [0, 100, 0]);
    }
}
