//! The age in the error of a record that failed: its own, and not that of the oldest record of its batch.
//!
//! The rig gives all records the same timestamp: the age of a record does not follow from it.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;

use penstock_core::boundary::{BatchDecision, Command, Decision, Trouble};
use penstock_core::compression::{Codec, Compression};
use penstock_core::config::Config;
use penstock_core::outcome::{Completion, FailureKind, Outcome};

use rig::{MS, Rig, config};

type Sent = (Arc<Completion>, u32);

/// Records wait in the buffer for a second unless a test changes that.
fn one_second() -> Config {
    let mut config = config();
    config.rules.linger_us = 1_000 * MS;
    config
}

/// Every record fails now, whatever its age.
fn fail(rig: &mut Rig) {
    let trouble = Trouble { code: 58, message: "wrong password".into() };
    rig.command(Command::FailBuffered { kind: FailureKind::Broker, trouble });
}

/// Time passes with a tick every 50 ms, as it does while records wait.
fn wait(rig: &mut Rig, ms: u64) {
    for _ in 0..ms / 50 {
        rig.pass(50 * MS);
    }
    rig.pass(ms % 50 * MS);
}

/// The age of a failed record and the age of its batch, ms.
fn ages((completion, index): &Sent) -> (u64, u64) {
    let (leaf, index) = completion.leaf(*index);
    match leaf.outcome() {
        Some(Outcome::Failed(failure)) => (failure.age_ms(index), failure.elapsed_ms),
        other => panic!("not failed: {other:?}"),
    }
}

/// Whether the error of a record says that it is about that old, and its batch that old.
fn reports_age(sent: &Sent, record_ms: u64, batch_ms: u64) -> bool {
    let (age, batch) = ages(sent);
    assert!(age.abs_diff(record_ms) <= 50, "{age} ms, it is {record_ms}");
    assert!((batch_ms..=batch_ms + 50).contains(&batch), "its batch {batch} ms, it is {batch_ms}");
    true
}

#[test]
fn records_that_fail_together_report_their_own_ages() {
    let mut rig = Rig::ready(one_second(), 1);
    rig.leaders(2, &[(-1, 1)]);
    let mut sent = Vec::new();
    for gap_ms in [0, 0, 380, 10, 400, 190] {
        wait(&mut rig, gap_ms);
        sent.push((rig.send(0, b"x"), rig.now_us));
    }
    wait(&mut rig, 20);
    fail(&mut rig);
    let (first, began_us) = &sent[0];
    let batch_ms = ages(first).1;
    assert!(sent.iter().all(|((completion, _), _)| Arc::ptr_eq(completion, &first.0)), "one batch");
    for (record, sent_us) in &sent {
        reports_age(record, batch_ms - (sent_us - began_us) / MS, 1_000);
    }
    assert_eq!(ages(first), (batch_ms, batch_ms), "the first one is as old as the batch");
    assert_eq!(ages(&sent[1].0), ages(first), "sent together, reported together");
}

#[test]
fn a_batch_that_was_closed_between_two_ticks_is_noted_by_the_next_one() {
    let mut rig = Rig::ready(one_second(), 1);
    rig.leaders(2, &[(-1, 1)]);
    let oldest = rig.send(0, b"x");
    wait(&mut rig, 400);
    // More than fits: the first batch is closed behind it, and another one is full at once.
    let late: Vec<Sent> = (0..40).map(|n| rig.send(0, &[n; 60])).collect();
    wait(&mut rig, 600);
    fail(&mut rig);
    let with_it: Vec<&Sent> = late.iter().filter(|(completion, _)| Arc::ptr_eq(completion, &oldest.0)).collect();
    assert!(!with_it.is_empty() && with_it.len() < late.len());
    assert!(with_it.iter().all(|sent| reports_age(sent, 600, 1_000)));
    assert!(late.iter().skip(with_it.len()).all(|sent| reports_age(sent, 600, 600)));
}

#[test]
fn a_batch_that_is_retried_or_unanswered_keeps_the_ages_of_its_records() {
    for retried in [true, false] {
        let mut config = one_second();
        config.rules.linger_us = 500 * MS;
        let mut rig = Rig::ready(config, 1);
        let older = rig.send(0, b"older");
        wait(&mut rig, 470);
        // Sent before a tick can see it.
        let newer = rig.send(0, b"newer");
        rig.pass(31 * MS);
        let seen = rig.seen(1);
        assert_eq!(seen[0].records, 2);
        if retried {
            rig.answer(1, &seen, 19, -1);
            let report = rig.handed_over().remove(0);
            let decisions = vec![BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry }];
            let (topic, delay_ms) = ("t".to_owned(), 5_000);
            rig.command(Command::ResumeLane { topic, partition: 0, decisions, renumber: None, delay_ms });
        }
        wait(&mut rig, 500);
        fail(&mut rig);
        assert!(reports_age(&older, 1_000, 1_000) && reports_age(&newer, 530, 1_000), "retried: {retried}");
    }
}

#[test]
fn the_records_of_a_split_batch_keep_their_ages() {
    let mut config = one_second();
    config.rules.linger_us = 700 * MS;
    let mut rig = Rig::ready(config, 1);
    let older: Vec<Sent> = (0..20).map(|n| rig.send(0, &[n; 12])).collect();
    wait(&mut rig, 600);
    let newer: Vec<Sent> = (0..20).map(|n| rig.send(0, &[n; 12])).collect();
    wait(&mut rig, 101);
    let seen = rig.seen(1);
    assert_eq!(seen[0].records, 40);
    rig.answer(1, &seen, 10, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Split, None);
    wait(&mut rig, 300);
    fail(&mut rig);
    assert!(older.iter().all(|sent| reports_age(sent, 1_000, 1_000)));
    assert!(newer.iter().all(|sent| reports_age(sent, 400, 1_000)));
}

#[test]
fn a_batch_that_waits_for_its_compression_keeps_the_ages_of_its_records() {
    let compression = Compression { codec: Codec::Lz4, level: 9 };
    let mut rig = Rig::ready(Config { compression, ..one_second() }, 1);
    rig.shared.encoding.codecs().unwrap().step_by_hand();
    let older = rig.send(0, b"older");
    wait(&mut rig, 300);
    let newer = rig.send(0, b"newer");
    rig.shared.begin_flush();
    wait(&mut rig, 700);
    fail(&mut rig);
    assert_eq!(rig.shared.encoding.codecs().unwrap().waiting(), 1, "and no worker compresses it");
    assert!(reports_age(&older, 1_000, 1_000) && reports_age(&newer, 700, 1_000));
}

#[test]
fn a_record_that_close_fails_reports_its_own_age() {
    let mut rig = Rig::ready(one_second(), 1);
    let older = rig.send(0, b"older");
    wait(&mut rig, 500);
    let newer = rig.send(0, b"newer");
    rig.engine.shut_down();
    let kind = |(completion, _): &Sent| match completion.outcome() {
        Some(Outcome::Failed(failure)) => failure.kind,
        other => panic!("not failed: {other:?}"),
    };
    assert_eq!((kind(&older), kind(&newer)), (FailureKind::Closed, FailureKind::Closed));
    assert!(reports_age(&older, 500, 500) && reports_age(&newer, 0, 500));
}
