//! The I/O thread over real sockets.

use std::io::{Read, Write};
#[path = "common/rig.rs"]
mod rig;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{Command, Event, PartitionLeader};
use penstock_core::compression::{Codec, Compression};
use penstock_core::config::Config;
use penstock_core::config::SendRules;
use penstock_core::io::net;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{FailureKind, Outcome};
use penstock_core::shared::Shared;

fn shared() -> Arc<Shared> {
    Shared::new(config())
}

fn config() -> Config {
    let config = rig::config();
    Config { rules: SendRules { linger_us: 0, ..config.rules }, max_idle_us: None, ..config }
}

fn wait_for(shared: &Shared, wanted: impl Fn(&Event) -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        if shared.events.take(Some(Duration::from_millis(100))).iter().any(&wanted) {
            return true;
        }
    }
    false
}

#[test]
fn an_end_of_stream_with_the_last_answer_is_noticed() {
    let shared = shared();
    let thread = net::start(&shared).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for connection in 1..=20 {
        shared.mailbox.command([Command::Connect {
            connection_id: connection,
            broker_id: 1,
            ip: address.ip(),
            port: address.port(),
            setup_timeout_ms: 5_000,
        }]);
        assert!(wait_for(&shared, |event| matches!(event, Event::ConnectionOpened { .. })));
        let frame = vec![0, 3, 0, 0, 0, 0, 0, 1];
        let request = |correlation_id| Command::SendFrame {
            connection_id: connection,
            correlation_id,
            frame: frame.clone(),
            timeout_ms: 30_000,
        };
        shared.mailbox.command([request(1), request(2)]);
        let (mut broker, _) = listener.accept().unwrap();
        broker.read_exact(&mut [0; 24]).unwrap();
        // One answer of two, and the end: often in one wake-up of the I/O thread.
        broker.write_all(&[0, 0, 0, 4, 0, 0, 0, 1]).unwrap();
        drop(broker);
        assert!(wait_for(&shared, |event| matches!(event, Event::ConnectionClosed { .. })), "connection {connection}");
    }
    shared.mailbox.request_stop();
    thread.join().unwrap();
}

#[test]
#[cfg(debug_assertions)]
fn a_panic_of_the_io_thread_fails_every_record_and_refuses_later_ones() {
    let shared = shared();
    let thread = net::start(&shared).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    shared.mailbox.command([Command::Connect {
        connection_id: 1,
        broker_id: 1,
        ip: address.ip(),
        port: address.port(),
        setup_timeout_ms: 5_000,
    }]);
    assert!(wait_for(&shared, |event| matches!(event, Event::ConnectionOpened { .. })));
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }; 2];
    shared.mailbox.command([
        Command::SetIdentity(Identity { producer_id: 1, epoch: 0 }),
        Command::SetTopic { name: "t".into(), topic_id: [7; 16], version: 1, partitions },
    ]);
    let until = Instant::now() + Duration::from_secs(3);
    while shared.topics.entry("t").topic.is_none() {
        shared.topics.wait(shared.topics.version(), until);
    }
    let topic = shared.topics.entry("t").topic.unwrap();
    let send = |partition| {
        let record = Record { timestamp: 1, key: None, value: Some(b"x"), headers: &[] };
        shared.append(&topic, Some(partition), &record, None, &mut 0)
    };
    let Appended::Done { completion, .. } = send(0) else { panic!("not appended") };
    // It stands for any bug of ours: the encoder asserts that the version is supported.
    shared.mailbox.command([Command::Ready { connection_id: 1, produce_version: 99 }]);
    assert!(wait_for(
        &shared,
        |event| matches!(event, Event::EngineFailed { message } if message.contains("panicked"))
    ));
    assert!(completion.wait(0, Some(until)));
    let Some(Outcome::Failed(failure)) = completion.outcome() else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Internal);
    assert!(matches!(send(1), Appended::Closed));
    assert!(shared.failures.fatal().is_some());
    thread.join().unwrap();
}

#[test]
fn a_panic_of_a_codec_worker_fails_every_record_and_refuses_later_ones() {
    // This level does not exist. The settings refuse it, so here it stands for a bug.
    let compression = Compression { codec: Codec::Gzip, level: 99 };
    let shared = Shared::new(Config { compression, ..config() });
    let thread = net::start(&shared).unwrap();
    let partitions = vec![PartitionLeader { leader: -1, leader_epoch: 0, local: false }; 2];
    shared.mailbox.command([Command::SetTopic { name: "t".into(), topic_id: [7; 16], version: 1, partitions }]);
    let until = Instant::now() + Duration::from_secs(10);
    while shared.topics.entry("t").topic.is_none() {
        shared.topics.wait(shared.topics.version(), until);
    }
    let topic = shared.topics.entry("t").topic.unwrap();
    let record = Record { timestamp: 1, key: None, value: Some(b"x"), headers: &[] };
    for partition in 0..2 {
        let Appended::Done { completion, .. } = shared.append(&topic, Some(partition), &record, None, &mut 0) else {
            // The worker was faster.
            assert!(shared.failures.fatal().is_some());
            continue;
        };
        assert!(completion.wait(0, Some(until)));
        let Some(Outcome::Failed(failure)) = completion.outcome() else { panic!("not failed") };
        assert_eq!(failure.kind, FailureKind::Internal);
        assert!(!failure.possibly_persisted);
        assert!(failure.message.contains("ompression") || failure.message.contains("codec worker"), "{failure:?}");
    }
    assert!(wait_for(&shared, |event| matches!(event, Event::EngineFailed { .. })));
    assert!(shared.failures.fatal().is_some());
    shared.mailbox.request_stop();
    thread.join().unwrap();
    shared.end_codecs();
    assert_eq!(shared.pool.available(), shared.pool.total());
}
