//! Each record of a batch has a deadline of its own; its batch goes on without it.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;
use std::time::Duration;

use penstock_core::boundary::{BatchDecision, Command, Decision, LaneReport};
use penstock_core::compression::{Codec, Compression, Encoder, decompress};
use penstock_core::config::Config;
use penstock_core::outcome::{CallbackToken, Completion, Failure, FailureKind, Outcome};
use penstock_core::wire::crc::crc32c;
use penstock_core::wire::record_batch::BATCH_HEADER_LEN;

use rig::{ME, MS, Rig, Seen, config, offset};

const TIMEOUT: u64 = 1_000 * MS;
/// A record fails so much after its deadline at most: the tick that notes it and the tick that finds it due.
const LATE: u64 = 100 * MS;

struct Sent {
    completion: Arc<Completion>,
    index: u32,
    at_us: u64,
    value: u8,
}

impl Sent {
    fn failure(&self) -> Option<Failure> {
        let (leaf, _) = self.completion.leaf(self.index);
        match leaf.outcome() {
            Some(Outcome::Failed(failure)) => Some((**failure).clone()),
            _ => None,
        }
    }

    fn offset(&self) -> Option<i64> {
        let (leaf, index) = self.completion.leaf(self.index);
        offset(&leaf).map(|base| base + i64::from(index))
    }

    fn is_open(&self) -> bool {
        self.completion.leaf(self.index).0.outcome().is_none()
    }

    fn fate(&self) -> (&'static str, bool) {
        let failure = self.failure().expect("it has failed");
        assert_eq!(failure.kind, FailureKind::Timeout);
        (failure.stage, failure.possibly_persisted)
    }
}

/// Records live for a second, and linger for as long as the test says.
fn lingering(linger_ms: u64) -> Config {
    let mut config = config();
    config.rules.delivery_timeout_us = TIMEOUT;
    config.rules.linger_us = linger_ms * MS;
    config
}

fn send(rig: &Rig, value: u8) -> Sent {
    let (completion, index) = rig.send(0, &[value; 12]);
    completion.add_callback(index, CallbackToken(usize::from(value)), true).unwrap();
    Sent { completion, index, at_us: rig.now_us, value }
}

/// Time passes; at each step the records that have failed by now are not too young, and the others not too old.
fn wait(rig: &mut Rig, ms: u64, sent: &[Sent]) {
    for _ in 0..ms / 10 {
        rig.pass(10 * MS);
        for record in sent {
            let age_us = rig.now_us - record.at_us;
            match record.failure() {
                Some(failure) => {
                    let timeout_ms = TIMEOUT / MS;
                    assert!(age_us >= TIMEOUT, "record {} failed early, after {age_us} µs", record.value);
                    let (leaf, index) = record.completion.leaf(record.index);
                    assert!(leaf.outcome().is_some());
                    let told = failure.age_ms(index);
                    assert!((timeout_ms..=timeout_ms + LATE / MS).contains(&told), "{told} ms");
                }
                None => assert!(
                    !record.is_open() || age_us <= TIMEOUT + LATE,
                    "record {} is open after {age_us} µs",
                    record.value
                ),
            }
        }
    }
}

/// Records of the values `from` to `to`, one every `gap_ms`.
fn trickle(rig: &mut Rig, values: std::ops::Range<u8>, gap_ms: u64) -> Vec<Sent> {
    let mut sent = Vec::new();
    for value in values {
        sent.push(send(rig, value));
        wait(rig, gap_ms, &sent);
    }
    sent
}

/// The callbacks that are due, and their memory given back.
fn callbacks(rig: &Rig) -> Vec<usize> {
    let mut called = Vec::new();
    while let Ok(Some(burst)) = rig.shared.callbacks.take(Duration::ZERO) {
        called.extend(burst.callbacks.iter().map(|(_, token)| token.0));
        rig.shared.release(burst.charged);
        for (index, _) in &burst.callbacks {
            assert!(matches!(
                burst.completion.leaf(*index).0.outcome(),
                Some(Outcome::Failed(_) | Outcome::Delivered { .. })
            ));
        }
    }
    called
}

/// Each callback was called once, in order, and the buffer is empty.
fn all_is_done(rig: &Rig, sent: &[Sent]) {
    assert_eq!(callbacks(rig), sent.iter().map(|record| usize::from(record.value)).collect::<Vec<_>>());
    assert_eq!(rig.shared.pool.available(), 100_000);
    assert_eq!(rig.shared.topics.unresolved_records(), 0);
}

fn records_of(batch: &Seen) -> Vec<u8> {
    let crc = u32::from_be_bytes(batch.bytes[17..21].try_into().unwrap());
    assert_eq!(crc, crc32c(&batch.bytes[21..]), "the checksum");
    let body = &batch.bytes[BATCH_HEADER_LEN..];
    let is_plain = batch.bytes[22].trailing_zeros() >= 3;
    if is_plain { body.to_vec() } else { decompress(Codec::Lz4, body, 1 << 16).unwrap() }
}

/// The batch holds these records and no other, with deltas from 0 on.
fn holds(batch: &Seen, sent: &[Sent]) {
    let values: Vec<_> = sent.iter().map(|record| record.value).collect();
    // Length, attributes, timestamp delta, offset delta, no key, length of the value; the value; no headers.
    let expected: Vec<u8> = values
        .iter()
        .enumerate()
        .flat_map(|(at, value)| [&[36, 0, 0, at as u8 * 2, 1, 24][..], &[*value; 12], &[0]].concat())
        .collect();
    assert_eq!(records_of(batch), expected, "{values:?}");
    assert_eq!(batch.records as usize, values.len());
}

/// No leader; and one again.
fn away(rig: &mut Rig) {
    rig.leaders(10, &[(-1, 1)]);
}

fn back(rig: &mut Rig) {
    rig.leaders(11, &[(1, 2)]);
    rig.pass(0);
}

fn delivered_from(sent: &[Sent], base_offset: i64) {
    for (at, record) in sent.iter().enumerate() {
        assert_eq!(record.offset(), Some(base_offset + at as i64), "record {}", record.value);
    }
}

fn fail_the_expired(report: &LaneReport) -> impl Fn(usize) -> Decision {
    let expired: Vec<bool> = report.batches.iter().map(|batch| batch.expired).collect();
    move |at| {
        if expired[at] {
            Decision::Fail { kind: FailureKind::Timeout, code: 0, message: "its time ran out".into() }
        } else {
            Decision::Retry
        }
    }
}

fn retry_after(rig: &mut Rig, report: &LaneReport, delay_ms: u64) {
    let decisions = vec![BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry }];
    rig.command(Command::ResumeLane { topic: "t".into(), partition: 0, decisions, renumber: None, delay_ms });
}

// ---------------------------------------------------------------------------------------------------------- never sent

#[test]
fn each_record_of_an_open_batch_fails_by_its_own_deadline() {
    let mut rig = Rig::ready(lingering(1_000), 1);
    away(&mut rig);
    let sent = trickle(&mut rig, 0..30, 30);
    assert!(sent.iter().all(|record| Arc::ptr_eq(&record.completion, &sent[0].completion)), "one batch");
    wait(&mut rig, 1_100, &sent);
    assert!(sent.iter().all(|record| record.fate() == ("linger", false)));
    all_is_done(&rig, &sent);
}

#[test]
fn the_rest_of_a_batch_is_sent_without_the_records_that_have_failed() {
    for failing_ms in [210, 610] {
        let mut rig = Rig::ready(lingering(1_000), 1);
        away(&mut rig);
        let mut sent = trickle(&mut rig, 0..20, 50);
        wait(&mut rig, failing_ms, &sent);
        // The batch takes no more: this record opens another one.
        sent.push(send(&rig, 99));
        let failed = sent.iter().filter(|record| !record.is_open()).count();
        assert!((failing_ms / 50 - 2..=failing_ms / 50 + 1).contains(&(failed as u64)), "{failed} have failed");
        back(&mut rig);
        let seen = rig.seen(1);
        holds(&seen[0], &sent[failed..20]);
        assert_eq!(seen[0].sequence, 0);
        rig.answer(1, &seen, 0, 70);
        rig.shared.begin_flush();
        rig.pass(0);
        let seen = rig.seen(1);
        holds(&seen[0], &sent[20..]);
        assert_eq!(seen[0].sequence, 20 - failed as i32);
        rig.answer(1, &seen, 0, 90);
        delivered_from(&sent[failed..20], 70);
        delivered_from(&sent[20..], 90);
        assert!(sent[..failed].iter().all(|record| record.fate() == ("linger", false)));
        all_is_done(&rig, &sent);
    }
}

#[test]
fn memory_comes_back_while_records_fail() {
    let mut rig = Rig::ready(lingering(1_000), 1);
    away(&mut rig);
    // Two batches.
    let sent = trickle(&mut rig, 0..90, 10);
    let mut last = rig.shared.pool.available();
    assert_eq!(last, 98_000);
    let mut steps = 0;
    for _ in 0..100 {
        wait(&mut rig, 10, &sent);
        callbacks(&rig);
        let now = rig.shared.pool.available();
        assert!(now >= last);
        steps += u32::from(now > last);
        last = now;
        // Never more than twice what is needed.
        let open = sent.iter().filter(|record| record.is_open()).count();
        assert!(
            100_000 - now <= 2 * (3 * BATCH_HEADER_LEN + open * 20) + 1_000,
            "{open} records hold {}",
            100_000 - now
        );
    }
    assert!(steps > 4 && last == 100_000, "{steps} steps");
}

#[test]
fn a_batch_that_has_grown_over_several_pieces_is_cut_like_a_small_one() {
    let mut rig = Rig::ready(Config { growth_max_bytes: 50_000, ..lingering(10_000) }, 1);
    away(&mut rig);
    let sent = trickle(&mut rig, 0..180, 10);
    let open = |sent: &[Sent]| sent.iter().filter(|record| record.is_open()).count();
    let left = open(&sent);
    assert!((90..=110).contains(&left), "{left} of the last second");
    let batches: std::collections::BTreeSet<_> = sent.iter().map(|record| Arc::as_ptr(&record.completion)).collect();
    assert!(batches.len() <= 80, "{} parts", batches.len());
    let mut called = callbacks(&rig);
    let charged = 100_000 - rig.shared.pool.available();
    // The last batch, which still grows, has a piece that is hardly filled.
    assert!(charged <= 20_000, "{charged} bytes for {left} records of 19");
    back(&mut rig);
    let mut offset = 0;
    while open(&sent) > 0 {
        rig.shared.begin_flush();
        rig.pass(0);
        for batch in rig.seen(1) {
            assert_eq!(i64::from(batch.sequence), offset);
            let from = sent.iter().position(Sent::is_open).unwrap();
            let until = from + batch.records as usize;
            let holds_them = sent[from..until]
                .iter()
                .all(|record| records_of(&batch).windows(12).any(|window| window == [record.value; 12]));
            assert!(holds_them && batch.bytes.len() > 12 * batch.records as usize);
            rig.answer(1, std::slice::from_ref(&batch), 0, offset);
            offset += i64::from(batch.records);
        }
    }
    delivered_from(&sent[180 - left..], 0);
    called.extend(callbacks(&rig));
    assert_eq!(called, (0..180).collect::<Vec<_>>(), "each once");
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn closing_fails_the_rest_once() {
    let mut rig = Rig::ready(lingering(1_000), 1);
    away(&mut rig);
    let sent = trickle(&mut rig, 0..10, 100);
    wait(&mut rig, 400, &sent);
    let failed = sent.iter().filter(|record| !record.is_open()).count();
    assert!((3..6).contains(&failed));
    assert_eq!(rig.shared.topics.unresolved_records(), 10 - failed as u64);
    rig.engine.shut_down();
    let kinds = |of: &[Sent]| of.iter().map(|record| record.failure().unwrap().kind).collect::<Vec<_>>();
    assert_eq!(kinds(&sent[failed..]), vec![FailureKind::Closed; 10 - failed]);
    let ages: Vec<_> = sent[failed..]
        .iter()
        .map(|record| {
            let (leaf, index) = record.completion.leaf(record.index);
            let Some(Outcome::Failed(failure)) = leaf.outcome() else { panic!("not failed") };
            failure.age_ms(index).abs_diff((rig.now_us - record.at_us) / MS)
        })
        .collect();
    assert!(ages.iter().all(|&difference_ms| difference_ms <= 50), "{ages:?}");
    all_is_done(&rig, &sent);
}

#[test]
fn records_that_were_there_when_the_engine_stopped_get_no_second_timeout() {
    let mut rig = Rig::ready(lingering(1_000), 1);
    away(&mut rig);
    let mut sent = trickle(&mut rig, 0..3, 50);
    sent.push(send(&rig, 4));
    rig.pass(0);
    rig.pass(5_000 * MS);
    assert!(sent.iter().all(|record| record.fate() == ("linger", false)));
}

#[test]
fn a_tick_that_is_only_late_makes_no_record_older_than_it_is() {
    let mut rig = Rig::ready(lingering(1_000), 1);
    away(&mut rig);
    let mut sent = vec![send(&rig, 0)];
    rig.pass(0);
    for (value, late_ms) in [(1, 450), (2, 500)] {
        rig.now_us += late_ms * MS;
        sent.push(send(&rig, value));
        sent.last_mut().unwrap().at_us = rig.now_us;
    }
    rig.pass(0);
    assert!(sent.iter().all(Sent::is_open));
    rig.pass(50 * MS);
    assert!(!sent[0].is_open() && sent[1].is_open() && sent[2].is_open());
    rig.pass(950 * MS);
    assert!(!sent[1].is_open() && !sent[2].is_open(), "both were noted by the late tick");
}

#[test]
fn a_batch_that_the_engine_wakes_for_after_an_idle_hour_is_not_taken_for_an_old_one() {
    let mut rig = Rig::ready(lingering(1_000), 1);
    rig.pass(3_600_000 * MS);
    rig.connect(2, 1);
    away(&mut rig);
    let sent = trickle(&mut rig, 0..3, 20);
    wait(&mut rig, 1_200, &sent);
    assert!(sent.iter().all(|record| record.fate() == ("linger", false)));
}

// ---------------------------------------------------------------------------------------------------------- compressed

fn compressing(linger_ms: u64) -> Rig {
    let compression = Compression { codec: Codec::Lz4, level: 9 };
    let rig = Rig::ready(Config { compression, ..lingering(linger_ms) }, 1);
    rig.shared.encoding.codecs().unwrap().step_by_hand();
    rig
}

/// Compress what waits: so many batches.
fn encode(rig: &mut Rig) -> usize {
    let codecs = rig.shared.encoding.codecs().unwrap();
    let mut encoder = Encoder::new(codecs.compression).unwrap();
    let mut jobs = 0;
    while let Some(job) = codecs.take(0) {
        codecs.run(job, &*rig.shared, &mut encoder).unwrap();
        jobs += 1;
    }
    rig.engine.run_once();
    jobs
}

#[test]
fn a_compressed_batch_is_compressed_again_without_the_records_that_have_failed() {
    for failing_ms in [250, 710] {
        let mut rig = compressing(1_000);
        away(&mut rig);
        let sent = trickle(&mut rig, 0..18, 50);
        rig.shared.begin_flush();
        rig.pass(0);
        assert_eq!(encode(&mut rig), 1);
        wait(&mut rig, failing_ms, &sent);
        let failed = sent.iter().filter(|record| !record.is_open()).count();
        assert!(failed > 0 && failed < 18);
        let again = encode(&mut rig);
        back(&mut rig);
        assert_eq!(again + encode(&mut rig), 1, "once");
        let seen = rig.seen(1);
        holds(&seen[0], &sent[failed..]);
        rig.answer(1, &seen, 0, 7);
        delivered_from(&sent[failed..], 7);
        all_is_done(&rig, &sent);
    }
}

#[test]
fn records_fail_in_time_while_a_worker_has_their_batch() {
    let mut rig = compressing(500);
    let sent = trickle(&mut rig, 0..8, 100);
    assert_eq!(rig.shared.encoding.codecs().unwrap().waiting(), 1, "the first five, and no worker takes it");
    wait(&mut rig, 250, &sent);
    let failed = sent.iter().filter(|record| !record.is_open()).count();
    assert_eq!(failed, 1);
    assert_eq!(encode(&mut rig), 2, "the second time without what was reported as not persisted");
    let seen = rig.seen(1);
    holds(&seen[0], &sent[1..5]);
    rig.answer(1, &seen, 0, 3);
    encode(&mut rig);
    let seen = rig.seen(1);
    holds(&seen[0], &sent[5..]);
    rig.answer(1, &seen, 0, 7);
    delivered_from(&sent[1..], 3);
    all_is_done(&rig, &sent);
}

// ---------------------------------------------------------------------------------------------------------------- sent

/// Three records, sent after 800 ms in one request: their deadlines are at 1,000, 1,300 and 1,700 ms.
fn three_in_flight() -> (Rig, Vec<Sent>, Vec<Seen>) {
    let mut rig = Rig::ready(lingering(800), 1);
    let mut sent = trickle(&mut rig, 0..2, 300);
    wait(&mut rig, 100, &sent);
    sent.push(send(&rig, 2));
    wait(&mut rig, 110, &sent);
    let seen = rig.seen(1);
    holds(&seen[0], &sent);
    (rig, sent, seen)
}

#[test]
fn an_answer_counts_for_the_records_that_have_not_failed_in_flight() {
    for (wait_ms, failed) in [(100, 0), (300, 1), (620, 2)] {
        let (mut rig, sent, seen) = three_in_flight();
        wait(&mut rig, wait_ms, &sent);
        assert!(sent[..failed].iter().all(|record| record.fate() == ("in flight", true)), "after {wait_ms} ms");
        assert!(sent[failed..].iter().all(Sent::is_open), "after {wait_ms} ms");
        assert_eq!(rig.shared.topics.unresolved_records(), 3 - failed as u64);
        rig.answer(1, &seen, 0, 40);
        delivered_from(&sent[failed..], 40 + failed as i64);
        all_is_done(&rig, &sent);
        let next = send(&rig, 9);
        rig.pass(801 * MS);
        assert_eq!(rig.seen(1)[0].sequence, 3, "the failed ones keep their numbers");
        assert!(next.is_open());
    }
}

#[test]
fn an_answer_without_an_offset_stays_without() {
    let (mut rig, sent, seen) = three_in_flight();
    wait(&mut rig, 300, &sent);
    rig.answer(1, &seen, 46, -1);
    let report = rig.handed_over().remove(0);
    assert!(!report.batches[0].expired);
    assert_eq!(report.batches[0].record_count, 3);
    rig.resume(&report, |_| Decision::Complete { base_offset: -1 }, None);
    assert_eq!(offset(&sent[2].completion.leaf(2).0), Some(-1));
    all_is_done(&rig, &sent);
}

#[test]
fn a_batch_that_is_sent_again_has_the_same_bytes() {
    let (mut rig, sent, first) = three_in_flight();
    wait(&mut rig, 300, &sent);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    assert!(!report.batches[0].expired);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.connect(2, 1);
    rig.pass(0);
    let seen = rig.seen(2);
    assert_eq!(seen[0].bytes, first[0].bytes);
    rig.answer(2, &seen, 0, 5);
    delivered_from(&sent[1..], 6);
    all_is_done(&rig, &sent);
}

#[test]
fn records_that_fail_between_two_attempts_may_be_persisted_by_the_second() {
    let (mut rig, sent, first) = three_in_flight();
    // Refused: not in the log. The batch waits for another attempt, which has all its records.
    rig.answer(1, &first, 19, -1);
    let report = rig.handed_over().remove(0);
    retry_after(&mut rig, &report, 400);
    wait(&mut rig, 350, &sent);
    assert_eq!(sent[0].fate(), ("retry", true));
    assert!(sent[1].is_open());
    wait(&mut rig, 60, &sent);
    let seen = rig.seen(1);
    assert_eq!(seen[0].bytes, first[0].bytes);
    rig.answer(1, &seen, 19, -1);
    let report = rig.handed_over().remove(0);
    retry_after(&mut rig, &report, 60_000);
    wait(&mut rig, 800, &sent);
    // Of the last one that is left nothing is sent again: it is not persisted.
    assert_eq!([&sent[1], &sent[2]].map(Sent::fate), [("retry", true), ("retry", false)]);
    let report = rig.handed_over().remove(0);
    assert!(report.batches[0].expired);
    rig.resume(&report, fail_the_expired(&report), Some((ME, 0)));
    all_is_done(&rig, &sent);
}

#[test]
fn records_fail_while_the_control_plane_decides() {
    let (mut rig, sent, first) = three_in_flight();
    rig.answer(1, &first, 19, -1);
    let report = rig.handed_over().remove(0);
    wait(&mut rig, 300, &sent);
    assert_eq!(sent[0].fate(), ("retry", true));
    rig.resume(&report, |_| Decision::Fail { kind: FailureKind::Broker, code: 19, message: String::new() }, None);
    let failed = sent[1].failure().unwrap();
    assert_eq!((failed.code, failed.possibly_persisted), (19, false), "refused, and not sent again");
    all_is_done(&rig, &sent);
}

#[test]
fn a_batch_that_splits_after_records_have_failed_keeps_the_order_of_things() {
    let mut rig = Rig::ready(lingering(700), 1);
    let mut sent = Vec::new();
    for (count, wait_ms) in [(10, 300), (10, 300), (20, 120)] {
        let from = sent.len() as u8;
        sent.extend((from..from + count).map(|value| send(&rig, value)));
        wait(&mut rig, wait_ms, &sent);
    }
    let seen = rig.seen(1);
    assert_eq!(seen[0].records, 40);
    wait(&mut rig, 350, &sent);
    assert!(sent[..10].iter().all(|record| record.fate() == ("in flight", true)) && sent[10].is_open());
    rig.answer(1, &seen, 10, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Split, None);
    let mut offsets = 0;
    let mut expired = 0;
    for _ in 0..10 {
        while let Some(report) = rig.handed_over().pop() {
            // Only records that have failed: they are not sent.
            expired += report.batches.iter().filter(|batch| batch.expired).map(|batch| batch.record_count).sum::<u32>();
            rig.resume(&report, fail_the_expired(&report), Some((ME, 0)));
        }
        rig.pass(0);
        for batch in rig.seen(1) {
            assert_eq!(i64::from(batch.sequence), offsets, "no gap");
            rig.answer(1, std::slice::from_ref(&batch), 0, offsets);
            offsets += i64::from(batch.records);
        }
    }
    assert_eq!(offsets + i64::from(expired), 40);
    let first = i64::from(expired);
    assert!(sent[10..].iter().all(|record| record.offset() == Some(i64::from(record.value) - first)), "{expired}");
    assert_eq!(callbacks(&rig).len(), 40);
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn the_io_thread_does_not_sleep_through_the_ticks_of_a_long_linger() {
    let mut config = config();
    config.rules.linger_us = 10_000 * MS;
    let mut rig = Rig::ready(config, 1);
    assert!(rig.shared.mailbox.prepare_sleep(u64::MAX), "nothing is buffered");
    rig.shared.mailbox.awake();
    // Between the engine's last pass and its sleep until some other time.
    rig.send(0, b"v");
    assert!(!rig.shared.mailbox.prepare_sleep(3_000 * MS), "the batch is to be noted before");
    let wake_at_us = rig.pass(0);
    assert!(wake_at_us <= rig.now_us + 50 * MS, "{wake_at_us}");
}
