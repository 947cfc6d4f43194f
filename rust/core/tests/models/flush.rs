//! The whole engine between a flush and an append: a flush sends every record that was sent before it, however long the linger.

use std::net::Ipv4Addr;
use std::sync::Arc;

use loom::thread;
use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{Command, PartitionLeader};
use penstock_core::engine::Engine;
use penstock_core::outcome::Completion;
use penstock_core::shared::Shared;

use penstock_core::io::memory_net::MemoryNet;

use crate::rig::{Seen, parse_produce};
use crate::{WakeUp, explore, shared};

fn engine(shared: &Arc<Shared>) -> Engine<MemoryNet> {
    let mut engine = Engine::new(Arc::clone(shared), MemoryNet::accepting());
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    shared.mailbox.command([
        Command::SetTopic { name: "t".into(), topic_id: [0; 16], version: 1, partitions },
        Command::Connect {
            connection_id: 1,
            broker_id: 1,
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 9092,
            setup_timeout_ms: 1_000,
        },
    ]);
    engine.run_once();
    engine.on_socket(1, false, true);
    shared.mailbox.command([Command::Ready { connection_id: 1, produce_version: 3 }]);
    engine.run_once();
    engine
}

/// None: the producer is closed.
fn append(shared: &Shared) -> Option<Arc<Completion>> {
    let topic = shared.topics.entry("t").topic.unwrap();
    let record = Record { timestamp: 1, key: None, value: Some(b"x"), headers: &[] };
    match shared.append(&topic, Some(0), &record, None, &mut 0) {
        Appended::Done { completion, .. } => Some(completion),
        Appended::Closed => None,
        Appended::NeedsMemory(_) => panic!("there is enough"),
    }
}

/// The I/O thread, with a broker that acknowledges at once, until the producer stops.
fn run(shared: &Shared, engine: &mut Engine<MemoryNet>, wake_up: &WakeUp) {
    while !shared.mailbox.is_stopped() {
        let wake_at_us = engine.run_once();
        if acknowledge(engine) {
            continue;
        }
        if wake_at_us > 1 && shared.mailbox.prepare_sleep(wake_at_us) {
            wake_up.wait();
        }
        shared.mailbox.awake();
    }
}

/// Answer what has been sent; false: nothing was.
fn acknowledge(engine: &mut Engine<MemoryNet>) -> bool {
    let socket = engine.transport().sockets.get_mut(&1).unwrap();
    let sent = std::mem::take(&mut socket.outgoing);
    let mut rest = &sent[..];
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let (request, tail) = tail.split_at(u32::from_be_bytes(*head) as usize);
        let mut batches = Vec::new();
        parse_produce(request, &mut batches);
        socket.incoming.extend(success(&batches[0]));
        rest = tail;
    }
    if !sent.is_empty() {
        engine.on_socket(1, true, false);
    }
    !sent.is_empty()
}

/// A Produce answer, version 3: partition 0 of topic "t" is in the log.
fn success(batch: &Seen) -> Vec<u8> {
    let mut frame = batch.correlation.to_be_bytes().to_vec();
    frame.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1]); // one topic, "t", one partition
    frame.extend([0; 4 + 2 + 8]); // partition 0, no error, offset 0
    frame.extend((-1i64).to_be_bytes());
    frame.extend([0; 4]); // no throttling
    [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat()
}

#[test]
fn a_flush_sends_earlier_records_at_once_and_a_close_resolves_all() {
    explore(1, || {
        let shared = shared();
        let wake_up = WakeUp::on(&shared);
        let mut engine = engine(&shared);
        let before = append(&shared).unwrap();
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || append(&shared))
        };
        let flush = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let pending = shared.begin_flush();
                assert!(pending.iter().all(|completion| completion.wait_all(None)));
                shared.topics.settle();
                shared.hurry.end_flush();
                assert!(before.outcome().is_some(), "it was sent before");
                shared.mailbox.request_stop();
            })
        };
        run(&shared, &mut engine, &wake_up);
        engine.shut_down();
        flush.join().unwrap();
        let appended = sender.join().unwrap();
        assert!(
            appended.is_none_or(|completion| completion.outcome().is_some()),
            "every accepted record has its outcome"
        );
    });
}
