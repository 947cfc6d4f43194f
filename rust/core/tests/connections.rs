//! Connections in trouble: half open, slow, cut in the middle of a frame, idle.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{Command, Decision, Event, PartitionLeader};
use penstock_core::lane::fate::Fate;
use penstock_core::outcome::Outcome;

use rig::{MS, Rig, Seen, config, connect_command, ended, offset};

// ------------------------------------------------------------------------------------------------------- without acks

#[test]
fn without_acks_a_request_that_left_whole_is_complete_though_a_later_write_fails() {
    let mut config = config();
    config.acks = 0;
    config.rules.idempotent = false;
    let mut rig = Rig::ready(config, 1);
    let sent: Vec<_> = (0..4).map(|_| rig.send(0, &[1; 900]).0).collect();
    // Three batches are full and leave; the socket takes the first two and a part of the third, then resets.
    let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
    (socket.room, socket.broken) = (2_500, true);
    rig.pass(MS);
    let events = rig.events();
    assert_eq!(ended(&events).len(), 1, "{events:?}");
    let done: Vec<_> = sent.iter().map(|completion| offset(completion)).collect();
    assert_eq!(
        done,
        [Some(-1), Some(-1), None, None],
        "a request that has left is done, as in Java: it is not sent twice"
    );
    let Some(Event::LanesHandedOver { lanes, .. }) =
        events.iter().find(|event| matches!(event, Event::LanesHandedOver { .. }))
    else {
        panic!("{events:?}")
    };
    let fates: Vec<_> = lanes[0].batches.iter().map(|batch| batch.fate).collect();
    assert_eq!(fates, [Fate::PartlyWritten]);
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

// ------------------------------------------------------------------------------------------------------ half open, slow

#[test]
fn a_connection_without_an_answer_ends_after_its_setup_timeout() {
    let mut rig = Rig::new(config());
    rig.engine.transport().accepts = false;
    rig.command(connect_command(4, 1));
    rig.engine.on_socket(4, false, true);
    rig.pass(900 * MS);
    assert!(rig.events().is_empty(), "it may still come up");
    rig.pass(200 * MS);
    let (connection, reason) = ended(&rig.events()).remove(0);
    assert_eq!(connection, 4);
    assert!(reason.contains("socket.connection.setup.timeout.ms"), "{reason}");
    assert!(rig.engine.transport().sockets.is_empty());
}

#[test]
fn an_answer_that_trickles_in_byte_by_byte_is_an_answer() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    for byte in answer(&seen[0], 7) {
        assert!(completion.outcome().is_none());
        rig.engine.transport().sockets.get_mut(&1).unwrap().incoming.push_back(byte);
        rig.engine.on_socket(1, true, false);
        rig.pass(10 * MS);
    }
    assert_eq!(offset(&completion), Some(7));
}

#[test]
fn a_request_that_the_socket_takes_in_pieces_arrives_whole() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, &[1; 700]);
    rig.engine.transport().sockets.get_mut(&1).unwrap().room = 0;
    rig.pass(6 * MS);
    let mut arrived = Vec::new();
    while arrived.len() < 4 || arrived.len() < 4 + u32::from_be_bytes(arrived[..4].try_into().unwrap()) as usize {
        let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
        socket.room = 13;
        rig.engine.on_socket(1, false, true);
        rig.pass(MS);
        arrived.append(&mut rig.engine.transport().sockets.get_mut(&1).unwrap().outgoing);
    }
    let mut seen = Vec::new();
    rig::parse_produce(&arrived[4..], &mut seen);
    assert_eq!((seen.len(), seen[0].sequence), (1, 0));
    rig.answer(1, &seen, 0, 3);
    assert_eq!(offset(&completion), Some(3));
}

/// A whole answer frame (version 3) of success at `base_offset`, its length included.
fn answer(to: &Seen, base_offset: i64) -> Vec<u8> {
    let mut frame = to.correlation.to_be_bytes().to_vec();
    frame.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1]);
    frame.extend(to.partition.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(base_offset.to_be_bytes());
    frame.extend((-1i64).to_be_bytes());
    frame.extend([0; 4]);
    let mut whole = (frame.len() as u32).to_be_bytes().to_vec();
    whole.extend(frame);
    whole
}

#[test]
fn a_truncated_answer_counts_as_none_and_the_batch_is_resent_unchanged() {
    for length in [1, 4, 11, 30] {
        let mut rig = Rig::ready(config(), 1);
        let (completion, _) = rig.send(0, b"x");
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
        socket.incoming.extend(&answer(&seen[0], 7)[..length]);
        socket.ended = true;
        rig.engine.on_socket(1, true, false);
        // The end comes with the bytes, and with an event of its own.
        rig.engine.on_socket(1, true, false);
        rig.pass(0);
        assert!(completion.outcome().is_none(), "{length} bytes of an answer");
        let report = rig.handed_over().remove(0);
        assert_eq!((report.batches[0].fate, report.batches[0].error_code), (Fate::Unknown, 13));
        rig.connect(2, 1);
        rig.resume(&report, |_| Decision::Retry, None);
        rig.pass(MS);
        let again = rig.seen(2);
        assert_eq!(again[0].bytes, seen[0].bytes);
        rig.answer(2, &again, 0, 7);
        assert_eq!(offset(&completion), Some(7));
    }
}

#[test]
fn a_partly_written_request_is_resent_whole_and_its_record_is_not_in_doubt() {
    let mut config = config();
    config.rules.delivery_timeout_us = 60_000 * MS;
    let mut rig = Rig::ready(config, 1);
    let (completion, _) = rig.send(0, &[1; 700]);
    let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
    (socket.room, socket.broken) = (300, true);
    rig.pass(6 * MS);
    let report = rig.handed_over().remove(0);
    assert_eq!(report.batches[0].fate, Fate::PartlyWritten);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.connect(2, 1);
    rig.pass(MS);
    assert_eq!(rig.seen(2)[0].records, 1, "from its first byte");
    rig.engine.shut_down();
    // It was written whole this time: now it is in doubt.
    assert!(matches!(completion.outcome(), Some(Outcome::Failed(failure)) if failure.possibly_persisted));

    let mut rig = Rig::ready(rig::config(), 1);
    let (completion, _) = rig.send(0, &[1; 700]);
    let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
    (socket.room, socket.broken) = (300, true);
    rig.pass(6 * MS);
    rig.pass(120_000 * MS);
    let Some(Outcome::Failed(failure)) = completion.outcome() else { panic!("not failed") };
    assert_eq!((failure.stage, failure.possibly_persisted), ("retry", false), "no broker has read it whole");
}

// ---------------------------------------------------------------------------------------------------------------- idle

#[test]
fn an_idle_connection_is_closed_and_requested_again_when_records_arrive() {
    let mut config = config();
    config.max_idle_us = Some(10_000 * MS);
    let mut rig = Rig::ready(config, 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.pass(9_000 * MS);
    rig.answer(1, &seen, 0, 0);
    let due_us = rig.pass(9_000 * MS);
    assert!(rig.events().is_empty(), "the answer was a use");
    assert!(due_us <= rig.now_us + 1_100 * MS, "the engine wakes up for it without any other event");
    rig.pass(1_100 * MS);
    let events = rig.events();
    assert!(
        matches!(&events[..], [Event::ConnectionClosed { expected: true, requested: false, reason, .. }] if reason.contains("idle")),
        "{events:?}"
    );
    let (completion, _) = rig.send(0, b"y");
    rig.pass(6 * MS);
    assert!(rig.events().iter().any(|event| matches!(event, Event::ConnectionWanted { broker_id: 1 })));
    rig.connect(2, 1);
    rig.pass(MS);
    let seen = rig.seen(2);
    rig.answer(2, &seen, 0, 1);
    assert_eq!(offset(&completion), Some(1));
}

#[test]
fn a_connection_that_waits_for_an_answer_is_not_idle() {
    let mut config = config();
    config.max_idle_us = Some(1_000 * MS);
    let mut rig = Rig::ready(config, 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    for _ in 0..10 {
        rig.pass(1_000 * MS);
    }
    assert!(rig.events().is_empty(), "request.timeout.ms is what bounds this");
}

#[test]
fn the_close_of_another_connection_to_a_broker_does_not_cancel_the_requested_one() {
    let mut rig = Rig::ready(config(), 1);
    // A control connection to broker 2.
    rig.command(connect_command(9, 2));
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
    let partitions = vec![PartitionLeader { leader: 2, leader_epoch: 1, local: false }];
    let set = Command::SetTopic { name: "t".into(), topic_id: [7; 16], version: 2, partitions };
    rig.shared.mailbox.command([set, Command::Close { connection_id: 9, reason: "not needed".into() }]);
    rig.engine.run_once();
    assert!(rig.events().iter().any(|event| matches!(event, Event::ConnectionWanted { broker_id: 2 })));
}
