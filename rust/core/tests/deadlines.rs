//! Deadlines, memory, and the end of the producer.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{BatchDecision, Command, Decision, Event, Trouble};
use penstock_core::config::Config;
use penstock_core::lane::fate::Fate;
use penstock_core::outcome::{Completion, Failure, FailureKind, Outcome};
use std::sync::Arc;

use rig::{ME, MS, Rig, config, offset};

fn impatient() -> Config {
    let mut config = config();
    config.rules.delivery_timeout_us = 1_000 * MS;
    config
}

fn failure(completion: &Completion) -> &Failure {
    match completion.outcome() {
        Some(Outcome::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn out_of_time() -> Decision {
    Decision::Fail { kind: FailureKind::Timeout, code: 0, message: "its time ran out".into() }
}

#[test]
fn both_partitions_of_one_request_run_out_of_time() {
    let mut rig = Rig::ready(impatient(), 2);
    let sent = [rig.send(0, b"a").0, rig.send(1, b"b").0];
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1).len(), 2);
    rig.pass(1_100 * MS);
    for completion in &sent {
        let failure = failure(completion);
        assert_eq!((failure.kind, failure.stage), (FailureKind::Timeout, "in flight"));
    }
}

#[test]
fn a_batch_that_expired_in_flight_is_never_resent_or_split() {
    for code in [6, 10, 45] {
        let mut rig = Rig::ready(impatient(), 1);
        for _ in 0..3 {
            rig.send(0, b"x");
        }
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        rig.pass(1_100 * MS);
        rig.answer(1, &seen, code, -1);
        let report = rig.handed_over().remove(0);
        assert!(report.batches[0].expired, "the control plane fails what has expired");
        assert_eq!(report.batches[0].fate, Fate::Unknown, "its records were reported as possibly persisted");
        rig.resume(&report, |_| out_of_time(), None);
        rig.pass(6 * MS);
        assert!(rig.seen(1).is_empty());
        assert_eq!(rig.shared.pool.available(), 100_000);
    }
}

#[test]
fn a_batch_that_waits_for_its_retry_runs_out_of_time_and_its_lane_settles() {
    let mut rig = Rig::ready(impatient(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 19, -1);
    let report = rig.handed_over().remove(0);
    let decisions = vec![BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry }];
    let (topic, delay_ms) = ("t".to_owned(), 60_000);
    rig.command(Command::ResumeLane { topic, partition: 0, decisions, renumber: None, delay_ms });
    rig.pass(1_100 * MS);
    let failed = failure(&completion);
    assert_eq!((failed.stage, failed.code, failed.possibly_persisted), ("retry", 19, false));
    let report = rig.handed_over().remove(0);
    assert!(report.batches[0].expired);
    rig.resume(&report, |_| out_of_time(), Some((ME, 0)));
    rig.send(0, b"next");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1)[0].sequence, 0, "at once, and without a gap");
}

#[test]
fn the_longest_deadline_is_kept_and_overflows_nothing() {
    let mut config = config();
    let longest_ms = i32::MAX as u64;
    config.rules.delivery_timeout_us = longest_ms * MS;
    let mut rig = Rig::new(config);
    rig.leaders(1, &[(1, 0)]);
    let (completion, _) = rig.send(0, b"x");
    rig.pass((longest_ms - 100) * MS);
    assert!(completion.outcome().is_none());
    rig.pass(150 * MS);
    assert_eq!(failure(&completion).stage, "linger");
}

#[test]
fn the_engine_wakes_for_the_first_linger_that_ends_and_for_deadlines_while_there_are_any() {
    let mut rig = Rig::ready(config(), 2);
    let idle = rig.pass(0);
    assert!(idle > rig.now_us + 500_000 * MS, "only connections.max.idle.ms");
    let began = rig.now_us;
    rig.send(0, b"a");
    assert_eq!(rig.pass(2 * MS), began + 5 * MS);
    rig.send(1, b"b");
    assert_eq!(rig.pass(MS), began + 5 * MS, "the second one's linger ends later");
    rig.pass(2 * MS);
    let first = rig.seen(1);
    assert_eq!(first.len(), 1);
    assert_eq!(rig.pass(0), began + 7 * MS);
    rig.pass(2 * MS);
    let second = rig.seen(1);
    assert!(rig.pass(0) <= rig.now_us + 50 * MS, "something is in flight");
    rig.answer(1, &first, 0, 0);
    rig.answer(1, &second, 0, 0);
    assert!(rig.pass(0) > rig.now_us + 500_000 * MS);
}

#[test]
fn memory_is_released_once_for_every_end_of_a_batch() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1).len(), 1);
    // No answer within request.timeout.ms, then no retries left, then every deadline there is.
    rig.pass(31_000 * MS);
    let report = rig.handed_over().remove(0);
    assert_eq!(rig.shared.pool.available(), 99_000);
    let fail = |_| Decision::Fail { kind: FailureKind::Broker, code: 13, message: String::new() };
    rig.resume(&report, fail, None);
    assert_eq!(rig.shared.pool.available(), 100_000);
    rig.pass(200_000 * MS);
    rig.engine.shut_down();
    assert_eq!(rig.shared.pool.available(), 100_000);
}

/// The bytes that a broker receives for one record of 900 bytes.
fn as_sent() -> Vec<u8> {
    let mut rig = Rig::ready(impatient(), 1);
    rig.send(0, &[7; 900]);
    rig.pass(6 * MS);
    rig.seen(1).remove(0).bytes
}

#[test]
fn bytes_that_the_socket_has_not_taken_are_never_overwritten_by_another_batch() {
    let endings: [fn(&mut Rig); 2] = [
        |rig| {
            rig.pass(1_100 * MS);
        },
        |rig| {
            rig.command(Command::FailProducer {
                kind: FailureKind::Broker,
                trouble: Trouble { code: 31, message: "not allowed".into() },
            });
        },
    ];
    for end in endings {
        let mut rig = Rig::ready(impatient(), 1);
        // A buffer that can be recycled, as in a producer that has run for a while.
        rig.shared.pool.recycle([Vec::with_capacity(1_000)].into_iter());
        rig.engine.transport().sockets.get_mut(&1).unwrap().room = 50;
        let (completion, _) = rig.send(0, &[7; 900]);
        rig.pass(6 * MS);
        end(&mut rig);
        assert!(matches!(completion.outcome(), Some(Outcome::Failed(_))));
        let mut next = rig.shared.pool.buffer(1_000);
        next.resize(1_000, 0xaa);
        rig.engine.transport().sockets.get_mut(&1).unwrap().room = usize::MAX;
        rig.engine.on_socket(1, false, true);
        rig.engine.run_once();
        assert_eq!(rig.seen(1)[0].bytes, as_sent(), "CVE-2026-35554 of the Java client");
    }
}

#[test]
fn after_a_fatal_error_late_answers_are_harmless() {
    let mut rig = Rig::ready(config(), 2);
    let sent = [rig.send(0, b"a").0, rig.send(1, b"b").0];
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.command(Command::FailProducer {
        kind: FailureKind::Broker,
        trouble: Trouble { code: 31, message: "not allowed".into() },
    });
    for completion in &sent {
        let failure = failure(completion);
        assert_eq!((failure.code, failure.possibly_persisted), (31, true), "its answer is still out");
    }
    rig.answer(1, &seen, 0, 0);
    assert!(sent.iter().all(|completion| offset(completion).is_none()), "an outcome does not change");
    assert_eq!(rig.shared.pool.available(), 100_000);
    assert!(!rig.events().iter().any(|event| matches!(event, Event::EngineFailed { .. })));
}

#[test]
fn closing_fails_handed_over_batches_and_ignores_the_late_decision() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 45, -1);
    // It waits for a new producer id.
    let report = rig.handed_over().remove(0);
    rig.engine.shut_down();
    let failed = failure(&completion);
    assert_eq!((failed.kind, failed.possibly_persisted), (FailureKind::Closed, false));
    rig.resume(&report, |_| Decision::Retry, None);
    assert!(!rig.events().iter().any(|event| matches!(event, Event::EngineFailed { .. })));
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn an_endless_linger_does_not_end() {
    let mut config = config();
    config.rules.linger_us = u64::MAX;
    let mut rig = Rig::ready(config, 1);
    rig.send(0, b"x");
    rig.pass(1_000 * MS);
    assert!(rig.seen(1).is_empty());
}

#[test]
fn a_batch_that_a_panic_takes_from_its_lane_fails_too() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let lane = Arc::clone(&rig.shared.topics.entry("t").topic.unwrap().lanes[0]);
    let mut inner = lane.inner.lock();
    let id = inner.unresolved().next().unwrap().id();
    let batch = inner.answered(id);
    drop(inner);
    // Unwinding does this.
    drop(batch);
    rig.engine.fail_engine("a bug");
    assert!(matches!(completion.outcome(), Some(Outcome::Failed(failure)) if failure.possibly_persisted));
}
