//! delivery.timeout.ms: its start, the error of an expired record, and the records behind it in its partition.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;

use penstock_core::boundary::{BatchDecision, Command, Decision, LaneReport, Trouble};
use penstock_core::config::Config;
use penstock_core::lane::fate::Fate;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{Completion, Failure, FailureKind, Outcome};

use rig::{ME, MS, Rig, config, offset};

/// The deadline is looked at this often.
const TICK: u64 = 50 * MS;

fn one_second() -> Config {
    let mut config = config();
    config.rules.delivery_timeout_us = 1_000 * MS;
    config
}

fn failure(completion: &Completion) -> Failure {
    match completion.outcome() {
        Some(Outcome::Failed(failure)) => (**failure).clone(),
        other => panic!("not failed: {other:?}"),
    }
}

/// The control plane's decision about each batch that has expired, and those behind it.
fn fail_the_expired(report: &LaneReport) -> impl Fn(usize) -> Decision {
    let expired: Vec<bool> = report.batches.iter().map(|batch| batch.expired).collect();
    move |at| {
        if expired[at] {
            Decision::Fail { kind: FailureKind::Timeout, code: 0, message: String::new() }
        } else {
            Decision::Retry
        }
    }
}

/// A second batch is in flight only once a first one has got through.
fn confirm(rig: &mut Rig) {
    rig.send(0, b"first");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 0);
}

// ---------------------------------------------------------------------------------------------------------- what counts

#[test]
fn linger_retries_and_backoff_all_count_from_the_send() {
    let mut rig = Rig::ready(one_second(), 1);
    let (completion, _) = rig.send(0, b"x");
    let sent_us = rig.now_us;
    rig.pass(6 * MS);
    for attempt in 1..=2 {
        let seen = rig.seen(1);
        assert_eq!(seen.len(), 1, "attempt {attempt}");
        rig.pass(90 * MS);
        rig.answer(1, &seen, 6, -1);
        let report = rig.handed_over().remove(0);
        let decisions = vec![BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry }];
        let (topic, delay_ms) = ("t".to_owned(), 500);
        rig.command(Command::ResumeLane { topic, partition: 0, decisions, renumber: None, delay_ms });
        if attempt == 1 {
            rig.pass(500 * MS);
        }
    }
    rig.pass(sent_us + 1_000 * MS - rig.now_us - 1);
    assert!(completion.outcome().is_none(), "not a moment too early");
    rig.pass(TICK + 1);
    let failure = failure(&completion);
    assert_eq!((failure.kind, failure.stage, failure.attempts, failure.code), (FailureKind::Timeout, "retry", 2, 6));
    assert!((1_000..=1_000 + TICK / MS).contains(&failure.elapsed_ms), "{} ms", failure.elapsed_ms);
    assert!(!failure.possibly_persisted, "each attempt was refused");
    rig.pass(500 * MS);
    assert!(rig.seen(1).is_empty(), "its backoff ends after its deadline");
}

#[test]
fn a_lane_that_the_control_plane_never_resumes_still_expires() {
    // Another library holds the GIL: no decision comes.
    let mut rig = Rig::ready(one_second(), 1);
    let (tried, _) = rig.send(0, &[1; 900]);
    let (behind, _) = rig.send(0, &[2; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 19, -1);
    rig.pass(1_000 * MS + TICK);
    assert_eq!((failure(&tried).stage, failure(&tried).attempts), ("retry", 1));
    assert_eq!((failure(&behind).stage, failure(&behind).attempts), ("linger", 0));
    assert!(!failure(&tried).possibly_persisted && !failure(&behind).possibly_persisted);
}

#[test]
fn the_children_of_a_split_batch_are_as_old_as_it_was() {
    let mut rig = Rig::ready(one_second(), 1);
    let sent: Vec<_> = (0..40).map(|n| rig.send(0, &[n; 12])).collect();
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.pass(500 * MS);
    rig.answer(1, &seen, 10, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Split, None);
    rig.pass(MS);
    let seen = rig.seen(1);
    rig.pass(1_000 * MS + TICK - 507 * MS);
    let failed = sent.iter().map(|(completion, index)| failure(&completion.leaf(*index).0));
    let stages: Vec<_> = failed.map(|failure| (failure.stage, failure.possibly_persisted)).collect();
    let (flying, waiting) = stages.split_at(seen[0].records as usize);
    assert!(flying.iter().all(|&it| it == ("in flight", true)), "{stages:?}");
    // Their parent was sent and refused.
    assert!(!waiting.is_empty() && waiting.iter().all(|&it| it == ("retry", false)), "{stages:?}");
}

#[test]
fn a_record_that_was_reported_as_not_persisted_is_not_sent_again() {
    let mut config = config();
    config.rules.delivery_timeout_us = 1_000 * MS;
    let mut rig = Rig::ready(config, 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    assert!(!report.batches[0].expired);
    rig.pass(1_100 * MS);
    let Some(Outcome::Failed(failure)) = completion.outcome() else { panic!("not failed") };
    assert!(!failure.possibly_persisted);
    // The control plane decides by the first report.
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert!(rig.seen(1).is_empty(), "it would be in the log after all");
    let report = rig.handed_over().remove(0);
    assert!(report.batches[0].expired);
    assert_eq!(report.batches[0].fate, Fate::Rejected);
    rig.resume(
        &report,
        |_| Decision::Fail { kind: FailureKind::Timeout, code: 0, message: String::new() },
        Some((ME, 0)),
    );
    rig.send(0, b"y");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1)[0].sequence, 0);
}

// ------------------------------------------------------------------------------------ behind one that expired in flight

const NEXT: Identity = Identity { producer_id: 42, epoch: 1 };

/// A batch with sequence 1 that was sent, was never answered and has expired; its connection is still up.
fn expired_in_flight(rig: &mut Rig) -> Arc<Completion> {
    confirm(rig);
    let (expired, _) = rig.send(0, b"expired");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1)[0].sequence, 1);
    rig.pass(1_000 * MS + TICK);
    assert_eq!((failure(&expired).stage, failure(&expired).possibly_persisted), ("in flight", true));
    expired
}

fn cut(rig: &mut Rig) -> LaneReport {
    rig.command(Command::Close { connection_id: 1, reason: "no answer within 1000 ms (request.timeout.ms)".into() });
    rig.handed_over().remove(0)
}

#[test]
fn after_a_batch_expires_in_flight_sequences_restart_under_the_next_epoch() {
    let mut rig = Rig::ready(one_second(), 2);
    expired_in_flight(&mut rig);
    let (behind, _) = rig.send(0, b"behind");
    rig.pass(6 * MS);
    assert!(rig.seen(1).is_empty(), "nothing follows while the answer may still come");
    assert!(rig.handed_over().is_empty());
    let report = cut(&mut rig);
    let [batch] = &report.batches[..] else { panic!("{report:?}") };
    assert_eq!((batch.expired, batch.fate, batch.base_sequence), (true, Fate::Unknown, 1));
    rig.command(Command::SetIdentity(NEXT));
    rig.resume(&report, fail_the_expired(&report), Some((NEXT, 0)));
    let (elsewhere, _) = rig.send(1, b"elsewhere");
    rig.connect(2, 1);
    rig.pass(6 * MS);
    let seen = rig.seen(2);
    let reported: Vec<_> = seen.iter().map(|batch| (batch.partition, batch.epoch, batch.sequence)).collect();
    assert_eq!(reported, [(0, 1, 0), (1, 1, 0)], "a late append of the lost one is fenced by the epoch");
    assert!(
        seen.iter().all(|batch| !batch.bytes.windows(7).any(|window| window == b"expired")),
        "it is not sent again"
    );
    for batch in &seen {
        rig.answer(2, std::slice::from_ref(batch), 0, 9);
    }
    assert_eq!((offset(&behind), offset(&elsewhere)), (Some(9), Some(9)));
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn a_successor_in_flight_is_resent_under_its_own_numbers() {
    let mut rig = Rig::ready(one_second(), 1);
    confirm(&mut rig);
    let (expired, _) = rig.send(0, b"expired");
    rig.pass(6 * MS);
    rig.pass(500 * MS);
    let (behind, _) = rig.send(0, b"behind");
    rig.pass(6 * MS);
    let sent = rig.seen(1);
    assert_eq!(sent.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 2]);
    rig.pass(500 * MS + TICK);
    assert!(failure(&expired).possibly_persisted);
    assert!(behind.outcome().is_none());
    let report = cut(&mut rig);
    let reported: Vec<_> = report.batches.iter().map(|batch| (batch.expired, batch.fate)).collect();
    assert_eq!(reported, [(true, Fate::Unknown), (false, Fate::Unknown)]);
    // Both may be in the log: no new numbers. If the first is not, the broker rejects the second.
    rig.resume(&report, fail_the_expired(&report), None);
    rig.connect(2, 1);
    rig.pass(MS);
    let seen = rig.seen(2);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].bytes, sent[1].bytes);
    rig.answer(2, &seen, 0, 2);
    assert_eq!(offset(&behind), Some(2));
}

#[test]
fn a_late_refusal_of_an_expired_batch_leaves_a_gap_for_the_control_plane() {
    let mut rig = Rig::ready(one_second(), 1);
    confirm(&mut rig);
    let (expired, _) = rig.send(0, b"expired");
    rig.pass(6 * MS);
    let late = rig.seen(1);
    rig.pass(1_000 * MS + TICK);
    rig.answer(1, &late, 6, -1);
    let report = rig.handed_over().remove(0);
    assert_eq!((report.batches[0].expired, report.batches[0].error_code), (true, 6));
    rig.command(Command::SetIdentity(NEXT));
    rig.resume(&report, fail_the_expired(&report), Some((NEXT, 0)));
    rig.send(0, b"after");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!((seen.len(), seen[0].epoch, seen[0].sequence), (1, 1, 0));
    assert_eq!(failure(&expired).stage, "in flight", "its first outcome stays");
}

// -------------------------------------------------------------------------------------------- why nothing was sent

/// The failure of a record that waits out its time in the buffer, in a lane made so by `hinder`.
fn unsent(hinder: impl Fn(&mut Rig)) -> Failure {
    let mut rig = Rig::ready(one_second(), 1);
    hinder(&mut rig);
    let (completion, _) = rig.send(0, &[3; 990]);
    rig.pass(1_000 * MS + TICK);
    let failure = failure(&completion);
    assert_eq!((failure.stage, failure.attempts, failure.possibly_persisted), ("linger", 0, false));
    failure
}

#[test]
fn an_unsent_record_reports_that_its_partition_has_no_leader() {
    let failure = unsent(|rig| rig.leaders(2, &[(-1, 1)]));
    assert_eq!((failure.broker, &*failure.message), (-1, "the partition has no leader"));
}

#[test]
fn an_unsent_record_reports_why_its_broker_cannot_be_reached() {
    let failure = unsent(|rig| {
        rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
        let trouble = Trouble { code: 58, message: "kafka:9092: wrong password".into() };
        rig.command(Command::SetBrokerStatus { broker_id: 1, trouble });
    });
    assert_eq!((failure.code, failure.broker, &*failure.message), (58, 1, "kafka:9092: wrong password"));
}

#[test]
fn an_unsent_record_reports_that_the_batch_before_it_is_unanswered() {
    let failure = unsent(|rig| {
        rig.send(0, &[1; 990]);
        rig.pass(500 * MS);
    });
    assert_eq!(failure.broker, 1);
    assert!(failure.message.contains("the batch before it was sent 10"), "{}", failure.message);
    assert!(failure.message.ends_with("ms ago and is not answered yet"), "{}", failure.message);
}

#[test]
fn an_unsent_record_reports_the_error_of_the_batch_before_it() {
    let failure = unsent(|rig| {
        rig.send(0, &[1; 990]);
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        rig.answer(1, &seen, 19, -1);
    });
    assert_eq!((failure.code, failure.broker), (19, 1));
    assert_eq!(failure.message, "met by the batch before it, after 1 attempt");
}

#[test]
fn an_unsent_record_reports_that_the_producer_has_no_id_yet() {
    let mut rig = Rig::new(one_second());
    rig.leaders(1, &[(1, 0)]);
    rig.connect(1, 1);
    let message = "no broker reachable: one:9092: refused".into();
    rig.command(Command::SetStatus { trouble: Trouble { code: 58, message } });
    let (completion, _) = rig.send(0, b"x");
    rig.pass(1_000 * MS + TICK);
    let failure = failure(&completion);
    assert_eq!(failure.message, "no broker has given the producer its id yet; no broker reachable: one:9092: refused");
    assert_eq!(failure.code, 58, "the code of what metadata waits for");
}
