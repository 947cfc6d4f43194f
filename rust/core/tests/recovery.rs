//! Recovery: what is sent after a lost connection, and when a request has waited too long.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{Command, Decision, Event};
use penstock_core::config::Config;

use rig::{Answer, FINE, MS, Rig, Seen, config, ended, offset};

/// Requests of one batch: each needs more than half of the room.
fn one_by_one() -> Config {
    let mut config = config();
    config.max_request_size = 1_500;
    config
}

/// A rig whose lanes have had a success each.
fn confirmed(config: Config, partitions: usize) -> Rig {
    let mut rig = Rig::ready(config, partitions);
    for partition in 0..partitions {
        rig.send(partition as u32, b"first");
    }
    rig.pass(6 * MS);
    answer_all(&mut rig, 1);
    rig
}

/// Answer each request with success, until none comes any more.
fn answer_all(rig: &mut Rig, connection: u64) {
    loop {
        rig.pass(0);
        let seen = rig.seen(connection);
        if seen.is_empty() {
            return;
        }
        for request in seen.chunk_by(|one, next| one.correlation == next.correlation) {
            rig.answer(connection, request, 0, 0);
        }
    }
}

fn requests(seen: &[Seen]) -> usize {
    seen.chunk_by(|one, next| one.correlation == next.correlation).count()
}

fn reset(rig: &mut Rig, connection: u64) {
    rig.engine.transport().sockets.get_mut(&connection).unwrap().failed = Some(std::io::ErrorKind::ConnectionReset);
    rig.engine.on_socket(connection, true, true);
    rig.pass(0);
}

/// The broker closes it.
fn hang_up(rig: &mut Rig, connection: u64) {
    rig.engine.transport().sockets.get_mut(&connection).unwrap().ended = true;
    rig.engine.on_socket(connection, true, false);
    rig.pass(0);
}

fn resume_all(rig: &mut Rig) {
    for report in rig.handed_over() {
        assert!(report.batches[0].lost, "{report:?}");
        rig.resume(&report, |_| Decision::Retry, None);
    }
}

// -------------------------------------------------------------------------------------------------------------- probing

#[test]
fn after_a_lost_connection_a_lane_has_one_batch_in_flight_until_a_success() {
    let mut rig = confirmed(config(), 1);
    let sent: Vec<_> = (0..6).map(|_| rig.send(0, &[1; 900]).0).collect();
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1).len(), 5);
    reset(&mut rig, 1);
    for connection in [2, 3] {
        resume_all(&mut rig);
        rig.connect(connection, 1);
        rig.pass(MS);
        let seen = rig.seen(connection);
        assert_eq!(seen.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1], "the oldest, alone");
        if connection == 2 {
            reset(&mut rig, 2);
            continue;
        }
        rig.answer(3, &seen, 0, 1);
        let two = rig.seen(3);
        assert_eq!(two.len(), 2, "the lane is free; the connection takes one more request");
        two.chunks(1).for_each(|request| rig.answer(3, request, 0, 1));
    }
    answer_all(&mut rig, 3);
    assert!(sent.iter().all(|completion| offset(completion).is_some()));
}

#[test]
fn a_connection_after_a_loss_begins_with_one_request_and_takes_one_more_after_each_answer() {
    let mut rig = confirmed(one_by_one(), 8);
    for partition in 0..8 {
        rig.send(partition, &[1; 900]);
    }
    rig.pass(6 * MS);
    assert_eq!(requests(&rig.seen(1)), 5, "max.in.flight.requests.per.connection");
    hang_up(&mut rig, 1);
    resume_all(&mut rig);
    rig.connect(2, 1);
    for expected in [1, 2, 2] {
        rig.pass(0);
        let seen = rig.seen(2);
        assert_eq!(requests(&seen), expected);
        rig.answer(2, &seen[..1], 0, 0);
        if let [_, second] = &seen[..] {
            assert_eq!(requests(&rig.seen(2)), 2, "one for the answer, one because the window grew");
            rig.answer(2, std::slice::from_ref(second), 0, 0);
            break;
        }
    }
}

#[test]
fn a_connection_that_was_lost_with_nothing_in_flight_starts_no_probing() {
    let close = |rig: &mut Rig, how: usize| match how {
        0 => hang_up(rig, 1),
        1 => reset(rig, 1),
        _ => {
            rig.pass(540_000 * MS);
        }
    };
    for how in 0..3 {
        let mut rig = confirmed(config(), 1);
        close(&mut rig, how);
        let events = rig.events();
        assert!(matches!(events[..], [Event::ConnectionClosed { requested: false, worked: true, .. }]), "{events:?}");
        (0..5).for_each(|_| drop(rig.send(0, &[1; 900])));
        rig.pass(6 * MS);
        rig.connect(2, 1);
        rig.pass(6 * MS);
        assert_eq!(rig.seen(2).len(), 5, "all at once: way {how}");
    }
}

#[test]
fn an_error_of_one_partition_slows_neither_its_connection_nor_the_others() {
    let mut rig = confirmed(one_by_one(), 2);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    assert!(!report.batches[0].lost);
    (0..6).for_each(|_| drop(rig.send(1, &[1; 900])));
    rig.pass(6 * MS);
    assert_eq!(requests(&rig.seen(1)), 5);
}

#[test]
fn a_batch_that_is_lost_again_and_again_is_resent_unchanged_and_only_the_connection_is_to_blame() {
    let mut rig = confirmed(config(), 1);
    let (completion, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    hang_up(&mut rig, 1);
    for connection in 2..6 {
        let events = rig.events();
        let worked = connection == 2;
        assert!(
            events.iter().any(|event| matches!(
                event,
                Event::ConnectionClosed { requested: true, worked: it, .. } if *it == worked
            )),
            "{events:?}"
        );
        let Some(Event::LanesHandedOver { lanes, .. }) = events.last() else { panic!("{events:?}") };
        assert_eq!((lanes[0].failures, lanes[0].batches[0].lost), (0, true));
        rig.resume(&lanes[0], |_| Decision::Retry, None);
        rig.connect(connection, 1);
        rig.pass(0);
        let again = rig.seen(connection);
        assert_eq!(again[0].bytes, first[0].bytes);
        if connection == 5 {
            rig.answer(connection, &again, 0, 1);
        } else {
            hang_up(&mut rig, connection);
        }
    }
    assert_eq!(offset(&completion), Some(1));
}

fn worked(rig: &Rig) -> Vec<bool> {
    let closed = rig.events().into_iter().filter_map(|event| match event {
        Event::ConnectionClosed { worked, .. } => Some(worked),
        _ => None,
    });
    closed.collect()
}

#[test]
fn an_answer_that_makes_no_sense_proves_no_connection() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    let mut seen = rig.seen(1);
    seen[0].partition = 5;
    rig.answer(1, &seen, 0, 0);
    assert_eq!(worked(&rig), [false], "or a broker that answers so would be connected to without a pause");
}

#[test]
fn without_acks_a_connection_that_lasts_has_worked() {
    let mut config = config();
    config.acks = 0;
    config.rules.idempotent = false;
    for (lasted_ms, expected) in [(0, false), (999, false), (1_000, true)] {
        let mut rig = Rig::ready(config.clone(), 1);
        let (completion, _) = rig.send(0, b"x");
        rig.pass(6 * MS);
        assert_eq!(offset(&completion), Some(-1));
        rig.pass(lasted_ms * MS);
        hang_up(&mut rig, 1);
        assert_eq!(worked(&rig), [expected], "{lasted_ms} ms: bytes leave into any socket");
    }
}

#[test]
fn a_throttle_and_a_backoff_pass_at_the_same_time() {
    let mut rig = Rig::speaking(6, config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer_with(1, &seen, Answer { code: 6, throttle_ms: 300, ..FINE });
    let report = rig.handed_over().remove(0);
    let decision =
        penstock_core::boundary::BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry };
    rig.command(Command::ResumeLane {
        topic: "t".into(),
        partition: 0,
        decisions: vec![decision],
        renumber: None,
        delay_ms: 250,
    });
    rig.pass(299 * MS);
    assert!(rig.seen(1).is_empty(), "throttled");
    rig.pass(MS);
    assert_eq!(rig.seen(1).len(), 1, "the backoff has passed meanwhile");
}

#[test]
fn answers_that_arrived_before_a_write_error_count() {
    let mut rig = confirmed(config(), 2);
    let (first, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    // The answer and the reset have arrived; the next pass writes before it has seen either.
    let (second, _) = rig.send(1, &[2; 900]);
    let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
    (socket.room, socket.broken) = (0, true);
    socket.incoming.extend(success(&seen[0], 7));
    rig.pass(6 * MS);
    assert_eq!(ended(&rig.events()).len(), 1);
    assert_eq!(offset(&first), Some(7), "it is not of unknown fate");
    assert!(second.outcome().is_none());
}

/// A whole answer frame (version 3) of success at `base_offset`, its length included.
fn success(to: &Seen, base_offset: i64) -> Vec<u8> {
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

// ------------------------------------------------------------------------------------------------------------- time-outs

/// request.timeout.ms is 10 s.
fn patient() -> Config {
    let mut config = one_by_one();
    config.request_timeout_us = 10_000 * MS;
    config
}

#[test]
fn a_request_that_waits_for_the_one_before_it_has_its_whole_time_afterwards() {
    let mut rig = confirmed(patient(), 1);
    let sent: Vec<_> = (0..5).map(|_| rig.send(0, &[1; 900]).0).collect();
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(requests(&seen), 5);
    // 45 s in all, as long as five requests of 1 MB take at 1 Mbit/s.
    for request in &seen {
        rig.pass(9_000 * MS);
        rig.answer(1, std::slice::from_ref(request), 0, 0);
    }
    assert!(rig.events().is_empty(), "no time-out");
    assert!(sent.iter().all(|completion| offset(completion).is_some()));

    drop(rig.send(0, &[1; 900]));
    rig.pass(6 * MS);
    rig.pass(10_000 * MS);
    let (_, reason) = ended(&rig.events()).remove(0);
    assert!(reason.contains("no answer within 10000 ms (request.timeout.ms)"), "{reason}");
}

#[test]
fn a_request_has_as_long_as_its_bytes_move() {
    let mut rig = confirmed(patient(), 1);
    rig.engine.transport().sockets.get_mut(&1).unwrap().room = 0;
    let (completion, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let mut arrived = Vec::new();
    while arrived.len() < 4 || arrived.len() < 4 + u32::from_be_bytes(arrived[..4].try_into().unwrap()) as usize {
        rig.pass(9_000 * MS);
        rig.engine.transport().sockets.get_mut(&1).unwrap().room = 100;
        rig.engine.on_socket(1, false, true);
        rig.pass(0);
        arrived.append(&mut rig.engine.transport().sockets.get_mut(&1).unwrap().outgoing);
    }
    assert!(rig.events().is_empty(), "99 s, and it was never idle for 10");
    let mut seen = Vec::new();
    rig::parse_produce(&arrived[4..], &mut seen);
    rig.pass(9_000 * MS);
    rig.answer(1, &seen, 0, 1);
    assert_eq!(offset(&completion), Some(1), "its time begins with its last byte");
}

#[test]
fn a_socket_that_takes_nothing_times_out() {
    let mut rig = confirmed(patient(), 1);
    rig.engine.transport().sockets.get_mut(&1).unwrap().room = 400;
    drop(rig.send(0, &[1; 900]));
    rig.pass(6 * MS);
    rig.pass(9_900 * MS);
    assert!(rig.events().is_empty());
    rig.pass(150 * MS);
    let (_, reason) = ended(&rig.events()).remove(0);
    assert!(reason.contains("bytes of a request could not be written within") && reason.contains("request.timeout.ms"));
}

#[test]
fn a_throttle_does_not_count() {
    let mut config = patient();
    config.rules.max_in_flight = 5;
    let mut rig = Rig::speaking(6, config, 1);
    rig.send(0, b"first");
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    (0..2).for_each(|_| drop(rig.send(0, &[1; 900])));
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer_with(1, &seen[..1], Answer { throttle_ms: 20_000, ..FINE });
    rig.pass(29_900 * MS);
    assert!(rig.events().is_empty(), "10 s after 20");
    rig.pass(200 * MS);
    assert_eq!(ended(&rig.events()).len(), 1);
}
