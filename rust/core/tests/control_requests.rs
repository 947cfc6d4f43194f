//! Requests of the control plane on a connection that carries Produce (re-authentication, say).

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{Command, Event};

use rig::{MS, Rig, config, ended, offset};

/// A control request (re-authentication, say) goes out on connection 1; its answer is the correlation id and one byte.
fn control_request(rig: &mut Rig, correlation_id: i32) -> Vec<u8> {
    let frame = [&[0, 36, 0, 2], &correlation_id.to_be_bytes()[..]].concat();
    rig.command(Command::SendFrame { connection: 1, correlation_id, frame: frame.clone(), timeout_us: 1_000 * MS });
    frame
}

/// The control answers that were passed on, and the connections that ended.
fn passed_on(events: &[Event]) -> (Vec<i32>, usize) {
    let answers = events.iter().filter_map(|event| match event {
        Event::FrameReceived { connection: 1, correlation_id, .. } => Some(*correlation_id),
        _ => None,
    });
    (answers.collect(), ended(events).len())
}

#[test]
fn a_control_answer_on_a_data_connection_is_passed_on_and_produce_goes_on_around_it() {
    let mut rig = Rig::ready(config(), 1);
    let (first, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let before = rig.seen(1);
    // The control plane counts its correlation ids for itself: this one is also that of the Produce request.
    let id = before[0].correlation;
    control_request(&mut rig, id);
    rig.answer(1, &before, 0, 0);
    let socket = rig.engine.transport().sockets.get_mut(&1).unwrap();
    let request = std::mem::take(&mut socket.outgoing);
    assert_eq!(request[8..12], id.to_be_bytes());
    let (second, _) = rig.send(0, &[2; 900]);
    rig.pass(6 * MS);
    let after = rig.seen(1);
    assert_eq!(passed_on(&rig.events()), (vec![], 0));
    rig.deliver(1, &[&id.to_be_bytes()[..], &[9]].concat());
    assert_eq!(passed_on(&rig.events()), (vec![id], 0));
    rig.answer(1, &after, 0, 1);
    assert_eq!((offset(&first), offset(&second)), (Some(0), Some(1)));
    assert_eq!(ended(&rig.events()), []);
}

#[test]
fn without_acks_a_control_answer_completes_the_requests_behind_it() {
    let mut config = config();
    config.acks = 0;
    config.rules.idempotent = false;
    let mut rig = Rig::ready(config, 1);
    control_request(&mut rig, 77);
    let (sent, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    rig.deliver(1, &[&77_i32.to_be_bytes()[..], &[9]].concat());
    assert_eq!(passed_on(&rig.events()), (vec![77], 0));
    assert!(sent.outcome().is_some(), "its request has left whole, and no answer will come");
    rig.pass(31_000 * MS);
    assert_eq!(ended(&rig.events()), [], "nothing is overdue");
}
