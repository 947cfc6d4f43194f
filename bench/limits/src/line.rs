//! One direction of a link: loss, a bounded queue before a slow wire, a delay. Pure: the caller says what time it is.

use std::collections::VecDeque;
use std::time::Duration;

/// What a direction does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// From the end of the slow wire to the receiver.
    pub delay: Duration,
    /// Bytes per second of the slow wire; 0: no limit.
    pub rate: u64,
    /// Packets that may wait for the slow wire, the one on it included; one more is dropped, as a router does.
    pub queue: usize,
    /// Chance of a packet to be lost, 0 to 1.
    pub loss: f64,
}

/// Counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that were handed over.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// Sum of the times by which packets were handed over too late, ns: the machine was busy.
    pub late_ns: u64,
    /// The longest of those times, ns.
    pub latest_ns: u64,
}

struct Packet {
    due: Duration,
    bytes: Vec<u8>,
}

/// One direction. Times are since any beginning, the same for all calls, and never go back.
pub struct Line {
    shape: Shape,
    random: Random,
    /// When the slow wire has sent all that it took.
    free_at: Duration,
    /// When each of the packets that wait for the slow wire, or are on it, leaves it.
    waiting: VecDeque<Duration>,
    /// Packets on their way, by time: the delay is the same for all.
    under_way: VecDeque<Packet>,
    totals: Totals,
}

impl Line {
    /// Nothing is under way. The same seed loses the same packets.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            random: Random(seed | 1),
            free_at: Duration::ZERO,
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// A packet comes in. True: it is the only one under way, and [`Line::due`] has a time that nobody waits for yet.
    pub fn arrive(&mut self, now: Duration, bytes: &[u8]) -> bool {
        if self.random.chance() < self.shape.loss {
            self.totals.lost += 1;
            return false;
        }
        while self.waiting.front().is_some_and(|&left| left <= now) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= self.shape.queue {
            self.totals.dropped += 1;
            return false;
        }
        let left = self.free_at.max(now) + self.time_on_wire(bytes.len());
        self.free_at = left;
        if self.shape.rate > 0 {
            self.waiting.push_back(left);
        }
        self.under_way.push_back(Packet { due: left + self.shape.delay, bytes: bytes.to_vec() });
        self.under_way.len() == 1
    }

    /// When the next packet is to be handed over.
    pub fn due(&self) -> Option<Duration> {
        self.under_way.front().map(|packet| packet.due)
    }

    /// The next packet, if it is due by `now`.
    pub fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.due()? > now {
            return None;
        }
        let packet = self.under_way.pop_front()?;
        let late = now.saturating_sub(packet.due).as_nanos() as u64;
        self.totals.packets += 1;
        self.totals.bytes += packet.bytes.len() as u64;
        self.totals.late_ns += late;
        self.totals.latest_ns = self.totals.latest_ns.max(late);
        Some(packet.bytes)
    }

    /// The counters so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn time_on_wire(&self, bytes: usize) -> Duration {
        match self.shape.rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate),
        }
    }
}

/// xorshift64*: good enough to lose packets by chance.
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn chance(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Shape = Shape { delay: Duration::ZERO, rate: 0, queue: 256, loss: 0.0 };

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// Hands over everything up to `end`, each packet at its due time; returns those times and sizes.
    fn handed_over(line: &mut Line, end: Duration) -> Vec<(Duration, usize)> {
        let mut seen = Vec::new();
        while let Some(due) = line.due().filter(|&due| due <= end) {
            assert_eq!(line.take(due.saturating_sub(Duration::from_nanos(1))), None, "not before its time");
            seen.push((due, line.take(due).expect("due").len()));
        }
        seen
    }

    #[test]
    fn a_packet_comes_out_after_the_delay_and_in_order() {
        let mut line = Line::new(Shape { delay: ms(10), ..PLAIN }, 1);
        assert!(line.arrive(ms(1), b"a"), "the first: somebody has to be woken");
        assert!(!line.arrive(ms(4), b"bb"), "its time is after that of the first");
        assert_eq!(handed_over(&mut line, ms(100)), [(ms(11), 1), (ms(14), 2)]);
        assert!(line.arrive(ms(200), b"c"), "again the only one");
    }

    #[test]
    fn the_rate_spaces_packets_that_come_at_once_and_idle_time_is_not_saved_up() {
        // 1,000 bytes take 1 ms.
        let mut line = Line::new(Shape { delay: ms(5), rate: 1_000_000, ..PLAIN }, 1);
        for _ in 0..3 {
            line.arrive(ms(0), &[0; 1000]);
        }
        assert_eq!(handed_over(&mut line, ms(100)), [(ms(6), 1000), (ms(7), 1000), (ms(8), 1000)]);
        for _ in 0..2 {
            line.arrive(ms(50), &[0; 500]);
        }
        let half = Duration::from_micros(500);
        assert_eq!(handed_over(&mut line, ms(100)), [(ms(55) + half, 500), (ms(56), 500)]);
    }

    #[test]
    fn a_second_of_load_moves_the_rate_and_drops_the_rest() {
        let mut line = Line::new(Shape { delay: ms(20), rate: 1_000_000, queue: 10, ..PLAIN }, 1);
        // Twice the rate: a packet of 1,000 bytes each half millisecond.
        for step in 0..2000 {
            line.arrive(Duration::from_micros(500 * step), &[0; 1000]);
        }
        let out = handed_over(&mut line, ms(5000));
        let within = out.iter().filter(|(due, _)| *due <= ms(1020)).count();
        assert!((999..=1000).contains(&within), "{within} packets of 1 ms each in a second");
        let totals = line.totals();
        assert_eq!(totals.packets + totals.dropped, 2000);
        assert!(out.len() - within <= 10, "no more than the queue is left at the end: {}", out.len() - within);
    }

    #[test]
    fn the_queue_has_room_again_when_a_packet_has_left_the_wire() {
        let mut line = Line::new(Shape { delay: ms(100), rate: 1_000_000, queue: 2, ..PLAIN }, 1);
        for _ in 0..3 {
            line.arrive(ms(0), &[0; 1000]);
        }
        assert_eq!(line.totals().dropped, 1);
        line.arrive(ms(1), &[0; 1000]);
        assert_eq!(line.totals().dropped, 1, "one has left the wire, though it is still under way");
        line.arrive(ms(1), &[0; 1000]);
        assert_eq!(line.totals().dropped, 2);
    }

    #[test]
    fn without_a_rate_nothing_waits_and_nothing_is_dropped() {
        let mut line = Line::new(Shape { delay: ms(100), queue: 1, ..PLAIN }, 1);
        for _ in 0..1000 {
            line.arrive(ms(0), &[0; 9000]);
        }
        assert_eq!(handed_over(&mut line, ms(100)).len(), 1000);
        assert_eq!(line.totals().dropped, 0);
    }

    #[test]
    fn a_seed_loses_the_same_packets_and_about_as_many_as_it_should() {
        let lost = |seed| {
            let mut line = Line::new(Shape { loss: 0.01, ..PLAIN }, seed);
            for step in 0..100_000 {
                line.arrive(ms(step), b"x");
            }
            line.totals().lost
        };
        assert_eq!(lost(7), lost(7));
        assert!((850..1150).contains(&lost(7)), "{}", lost(7));
    }

    #[test]
    fn late_packets_are_counted() {
        let mut line = Line::new(Shape { delay: ms(1), ..PLAIN }, 1);
        line.arrive(ms(0), b"a");
        line.arrive(ms(0), b"b");
        line.take(ms(1));
        line.take(ms(3));
        let Totals { packets, bytes, late_ns, latest_ns, .. } = line.totals();
        assert_eq!((packets, bytes, late_ns, latest_ns), (2, 2, 2_000_000, 2_000_000));
    }
}
