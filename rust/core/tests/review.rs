//! What a review found: each of these failed once.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{Command, Decision, Event};
use penstock_core::lane::fate::Fate;
use penstock_core::outcome::Outcome;

use rig::{MS, Rig, config, offset};

#[test]
fn a_decided_batch_does_not_show_the_offset_of_its_old_answer() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    for _ in 0..2 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    // REQUEST_TIMED_OUT carries the offset at which the leader appended; the replicas may never have seen it.
    rig.answer(1, &seen[..1], 7, 1);
    rig.answer(1, &seen[1..], 7, 2);
    let report = rig.handed_over().remove(0);
    assert_eq!(report.batches[1].base_offset, 2);
    rig.leaders(2, &[(2, 1)]);
    rig.connect(2, 2);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert_eq!(rig.seen(2).len(), 1);
    rig.command(Command::Close { connection: 2, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    let told: Vec<_> = report.batches.iter().map(|batch| (batch.error_code, batch.base_offset)).collect();
    assert_eq!(told, [(13, -1), (0, -1)], "0 with an offset would be taken for an acknowledgement");
}

#[test]
fn without_acks_the_next_requests_need_no_event() {
    let mut config = config();
    config.acks = 0;
    config.rules.idempotent = false;
    let mut rig = Rig::ready(config, 1);
    let sent: Vec<_> = (0..40).map(|_| rig.send(0, &[1; 900]).0).collect();
    for _ in 0..20 {
        if rig.pass(0) > rig.now_us {
            break;
        }
    }
    // All but the last, which lingers.
    assert!(sent[..39].iter().all(|completion| completion.outcome().is_some()), "a sleep with room to send");
}

#[test]
fn a_record_that_was_told_not_persisted_is_not_sent_again() {
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
    // The control plane decides by what it was told before.
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert!(rig.seen(1).is_empty(), "it would be in the log after all");
    let report = rig.handed_over().remove(0);
    assert!(report.batches[0].expired);
    assert_eq!(report.batches[0].fate, Fate::Rejected);
    rig.resume(
        &report,
        |_| Decision::Fail { kind: penstock_core::outcome::FailureKind::Timeout, code: 0, message: String::new() },
        Some((rig::ME, 0)),
    );
    rig.send(0, b"y");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1)[0].sequence, 0);
}

#[test]
fn another_connection_to_a_broker_that_closes_does_not_stand_for_the_one_wanted() {
    let mut rig = Rig::ready(config(), 1);
    let address = "127.0.0.1:9092".parse().unwrap();
    // A control connection to broker 2.
    rig.command(Command::Connect { connection: 9, broker: 2, address, setup_timeout_us: 1_000 * MS });
    rig.engine.on_socket(9, false, true);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 0);
    rig.send(0, &[1; 990]);
    rig.events();
    rig.now_us += 6 * MS;
    rig.shared.clock.set_us(rig.now_us);
    // The lane becomes ready for broker 2, and the control connection ends, in the same pass.
    let partitions = vec![penstock_core::boundary::PartitionLeader { leader: 2, leader_epoch: 1, local: false }];
    let set = Command::SetTopic { name: "t".into(), topic_id: [7; 16], version: 2, partitions };
    rig.shared.mailbox.command([set, Command::Close { connection: 9, reason: "not needed".into() }]);
    rig.engine.turn();
    assert!(rig.events().iter().any(|event| matches!(event, Event::ConnectionWanted { broker: 2 })));
}

#[test]
fn a_topic_made_anew_gets_one_batch_until_a_first_success() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    for _ in 0..9 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let old = rig.seen(1);
    assert_eq!(old.len(), 5);
    let partitions = vec![penstock_core::boundary::PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    rig.command(Command::SetTopic { name: "t".into(), topic_id: [8; 16], version: 2, partitions });
    for (at, batch) in old.iter().enumerate() {
        assert!(rig.seen(1).is_empty(), "answers of the old topic are still out");
        rig.answer(1, std::slice::from_ref(batch), 0, at as i64);
    }
    assert_eq!(rig.seen(1).len(), 1, "the new topic's leader has no state of this producer");
}

#[test]
fn an_endless_linger_is_one() {
    let mut config = config();
    config.rules.linger_us = u64::MAX;
    let mut rig = Rig::ready(config, 1);
    rig.send(0, b"x");
    rig.pass(1_000 * MS);
    assert!(rig.seen(1).is_empty());
}

#[test]
fn an_offset_at_the_end_of_all_numbers_harms_nothing() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    let (completion, _) = rig.send(0, b"y");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, i64::MAX);
    assert_eq!(offset(&completion), Some(i64::MAX));
}

#[test]
fn a_batch_in_hand_when_the_io_thread_panics_fails_too() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let lane = std::sync::Arc::clone(&rig.shared.topics.entry("t").topic.unwrap().lanes[0]);
    let batch = lane.inner.lock().in_flight.pop_front();
    // What unwinding does.
    drop(batch);
    rig.engine.die("a bug");
    assert!(matches!(completion.outcome(), Some(Outcome::Failed(failure)) if failure.possibly_persisted));
}

#[test]
fn an_error_with_an_offset_came_after_the_append() {
    // Seen on Kafka 4.4: a leader that waits for its followers and loses the partition meanwhile answers
    // NOT_LEADER_OR_FOLLOWER with the offset of its append, and the record is in the new leader's log.
    for (code, base_offset, fate) in [(6, 1, Fate::Unknown), (3, 0, Fate::Unknown), (6, -1, Fate::Rejected)] {
        let mut config = config();
        config.rules.delivery_timeout_us = 1_000 * MS;
        let mut rig = Rig::ready(config, 1);
        let (sent, _) = rig.send(0, b"hello");
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        rig.answer(1, &seen, code, base_offset);
        let report = rig.handed_over().remove(0);
        assert_eq!(report.batches[0].fate, fate, "error {code} with offset {base_offset}");
        rig.pass(1_000 * MS);
        let Some(Outcome::Failed(failure)) = sent.outcome() else { panic!("not expired") };
        assert_eq!(failure.possibly_persisted, fate == Fate::Unknown);
    }
}
