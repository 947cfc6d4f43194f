//! A broker that takes or answers nothing: other partitions go on, and records without a key move away.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::Command;

use rig::{MS, Rig, config, offset};

#[test]
fn a_frozen_broker_delays_only_its_own_partitions() {
    let mut rig = Rig::ready(config(), 2);
    rig.leaders(2, &[(1, 0), (2, 0)]);
    rig.connect(2, 2);
    // It takes no byte and answers nothing.
    rig.engine.transport().sockets.get_mut(&1).unwrap().room = 0;
    for round in 0..20 {
        rig.send(0, &[1; 900]);
        let (other, _) = rig.send(1, &[2; 900]);
        rig.pass(6 * MS);
        let seen = rig.seen(2);
        assert_eq!(seen.len(), 1);
        rig.answer(2, &seen, 0, round);
        assert_eq!(offset(&other), Some(round));
    }
    assert!(rig.seen(1).is_empty());
}

#[test]
fn records_without_a_key_move_away_from_a_broker_that_takes_nothing() {
    let mut config = config();
    config.partitioning.availability_timeout_us = 500 * MS;
    let mut rig = Rig::ready(config, 2);
    rig.leaders(2, &[(1, 0), (2, 0)]);
    rig.connect(2, 2);
    let rules = rig.shared.config.partitioning;
    // Broker 2 is gone: records for it have waited longer than partitioner.availability.timeout.ms.
    rig.command(Command::Close { connection: 2, reason: "cut".into() });
    rig.send(1, &[1; 900]);
    rig.pass(6 * MS);
    rig.pass(600 * MS);
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let chosen = |rig: &Rig| {
        let mut shares = [0; 2];
        for _ in 0..100 {
            let (partition, choice) = topic.choose(None, &rules, || rig.now_us);
            topic.end(choice.unwrap(), &rules, || rig.now_us);
            shares[partition as usize] += 1;
        }
        shares
    };
    // The very first choice may be an older one.
    let [_, frozen] = chosen(&rig);
    assert!(frozen <= 1, "{frozen} of 100");
    rig.connect(3, 2);
    rig.pass(MS);
    let seen = rig.seen(3);
    rig.answer(3, &seen, 0, 0);
    rig.pass(MS);
    let [_, back] = chosen(&rig);
    assert!(back > 20, "it takes records again: {back} of 100");
}

#[test]
fn records_without_a_key_leave_a_broker_that_answers_nothing() {
    // One unanswered request is all that may be out before a first success; five are, after it.
    for confirmed in [false, true] {
        let mut config = config();
        config.partitioning.availability_timeout_us = 500 * MS;
        let mut rig = Rig::ready(config, 2);
        rig.leaders(2, &[(1, 0), (2, 0)]);
        rig.connect(2, 2);
        let rules = rig.shared.config.partitioning;
        if confirmed {
            rig.send(1, b"x");
            rig.pass(6 * MS);
            let seen = rig.seen(2);
            rig.answer(2, &seen, 0, 0);
        }
        for _ in 0..7 {
            rig.send(1, &[1; 900]);
        }
        rig.pass(6 * MS);
        let owed = rig.seen(2);
        assert_eq!(owed.len(), if confirmed { 5 } else { 1 });
        let topic = rig.shared.topics.entry("t").topic.unwrap();
        let frozen = |rig: &Rig| {
            let choices = (0..100).map(|_| {
                let (partition, choice) = topic.choose(None, &rules, || rig.now_us);
                topic.end(choice.unwrap(), &rules, || rig.now_us);
                partition
            });
            choices.skip(1).filter(|&partition| partition == 1).count()
        };
        rig.pass(100 * MS);
        assert!(frozen(&rig) > 0, "it may only be slow");
        rig.pass(600 * MS);
        assert_eq!(frozen(&rig), 0);
        // It thaws.
        rig.answer(2, &owed[..1], 0, 1);
        rig.pass(MS);
        assert!(frozen(&rig) > 0);
    }
}

#[test]
fn records_without_a_key_prefer_the_partition_with_the_shorter_queue() {
    let mut rig = Rig::ready(config(), 2);
    rig.leaders(2, &[(1, 0), (2, 0)]);
    rig.connect(2, 2);
    // Broker 1 is frozen: its queue grows, while broker 2's is empty.
    for _ in 0..10 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let rules = rig.shared.config.partitioning;
    let mut frozen = 0;
    for _ in 0..200 {
        let (partition, choice) = topic.choose(None, &rules, || rig.now_us);
        topic.end(choice.unwrap(), &rules, || rig.now_us);
        frozen += usize::from(partition == 0);
    }
    assert!(frozen < 40, "{frozen} of 200");
}
