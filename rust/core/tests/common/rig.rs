//! The engine stepped by hand: manual clock, sockets in memory, and a broker whose answers the test gives.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::Ipv4Addr;
use std::sync::Arc;

use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{BatchDecision, Command, Decision, Event, LaneReport, PartitionLeader, Renumber};
use penstock_core::compression::Compression;
use penstock_core::config::Allocation;
use penstock_core::config::Config;
use penstock_core::config::PartitionRules;
use penstock_core::config::SendRules;
use penstock_core::engine::Engine;
use penstock_core::io::memory_net::MemoryNet;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{Completion, Outcome};
use penstock_core::shared::Shared;

pub const MS: u64 = 1000;
pub const ME: Identity = Identity { producer_id: 42, epoch: 0 };

/// One batch as the broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub correlation: i32,
    pub topic: String,
    pub partition: i32,
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub records: i32,
    pub bytes: Vec<u8>,
}

/// The same answer about each batch in it; the version of Produce decides how much of it is on the wire.
#[derive(Clone, Copy)]
pub struct Answer {
    pub code: i16,
    pub base_offset: i64,
    pub log_start_offset: i64,
    pub throttle_ms: i32,
}

pub const FINE: Answer = Answer { code: 0, base_offset: 0, log_start_offset: -1, throttle_ms: 0 };

pub struct Rig {
    pub shared: Arc<Shared>,
    pub engine: Engine<MemoryNet>,
    pub now_us: u64,
    /// Of the connections to come: 3 to 7, which look alike but for the log start offset in answers from 5 on.
    pub produce_version: i16,
}

pub fn config() -> Config {
    Config {
        client_id: "test".into(),
        acks: -1,
        rules: SendRules {
            idempotent: true,
            max_in_flight: 5,
            linger_us: 5 * MS,
            linger_bytes: 0,
            delivery_timeout_us: 120_000 * MS,
        },
        compression: Compression::default(),
        partitioning: PartitionRules {
            ignore_keys: false,
            adaptive: true,
            availability_timeout_us: 0,
            rack_aware: false,
            sticky_bytes: 1_000,
        },
        batch_size: 1_000,
        growth_max_bytes: 0,
        buffer_memory: 100_000,
        allocation: Allocation::Full,
        max_request_size: 1 << 20,
        max_in_flight_requests: 5,
        request_timeout_us: 30_000 * MS,
        max_idle_us: Some(540_000 * MS),
        send_buffer: None,
        receive_buffer: None,
        seed: 1,
    }
}

impl Rig {
    pub fn new(config: Config) -> Self {
        let shared = Shared::new(config);
        shared.clock.set_us(1);
        let engine = Engine::new(Arc::clone(&shared), MemoryNet::accepting());
        Self { shared, engine, now_us: 1, produce_version: 3 }
    }

    /// A rig with topic "t" led by broker 1, which is connected as connection 1.
    pub fn ready(config: Config, partitions: usize) -> Self {
        Self::speaking(3, config, partitions)
    }

    /// The same, in this version of Produce.
    pub fn speaking(produce_version: i16, config: Config, partitions: usize) -> Self {
        let mut rig = Self::new(config);
        rig.produce_version = produce_version;
        rig.command(Command::SetIdentity(ME));
        rig.leaders(1, &vec![(1, 0); partitions]);
        rig.connect(1, 1);
        rig
    }

    pub fn leaders(&mut self, version: u64, leaders: &[(i32, i32)]) {
        let partitions = leaders
            .iter()
            .map(|&(leader, leader_epoch)| PartitionLeader { leader, leader_epoch, local: false })
            .collect();
        self.command(Command::SetTopic { name: "t".into(), topic_id: [7; 16], version, partitions });
    }

    pub fn connect(&mut self, connection_id: u64, broker_id: i32) {
        self.command(connect_command(connection_id, broker_id));
        self.engine.on_socket(connection_id, false, true);
        self.command(Command::Ready { connection_id, produce_version: self.produce_version });
        self.events();
    }

    pub fn command(&mut self, command: Command) {
        self.shared.mailbox.command([command]);
        self.engine.run_once();
    }

    /// Let time pass; returns when the engine means to wake up next.
    pub fn pass(&mut self, us: u64) -> u64 {
        self.now_us += us;
        self.shared.clock.set_us(self.now_us);
        self.engine.run_once()
    }

    pub fn send(&self, partition: u32, value: &[u8]) -> (Arc<Completion>, u32) {
        let topic = self.shared.topics.entry("t").topic.unwrap();
        let record = Record { timestamp: 1, key: None, value: Some(value), headers: &[] };
        match self.shared.append(&topic, Some(partition), &record, None, &mut 0) {
            Appended::Done { completion, index } => (completion, index),
            other => panic!("{other:?}"),
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.shared.events.take(Some(std::time::Duration::ZERO)).into()
    }

    pub fn handed_over(&self) -> Vec<LaneReport> {
        self.events()
            .into_iter()
            .flat_map(|event| match event {
                Event::LanesHandedOver { lanes, .. } => lanes,
                _ => Vec::new(),
            })
            .collect()
    }

    /// The batches that arrived at the broker since the last call.
    pub fn seen(&mut self, connection: u64) -> Vec<Seen> {
        let Some(socket) = self.engine.transport().sockets.get_mut(&connection) else { return Vec::new() };
        let mut stream = &std::mem::take(&mut socket.outgoing)[..];
        let mut batches = Vec::new();
        while !stream.is_empty() {
            let len = u32::from_be_bytes(stream[..4].try_into().unwrap()) as usize;
            parse_produce(&stream[4..4 + len], &mut batches);
            stream = &stream[4 + len..];
        }
        batches
    }

    /// Answer one batch per request with an error code and an offset.
    pub fn answer(&mut self, connection: u64, seen: &[Seen], code: i16, base_offset: i64) {
        self.answer_with(connection, seen, Answer { code, base_offset, ..FINE });
    }

    /// Answer one request, all of its batches alike.
    pub fn answer_with(&mut self, connection: u64, seen: &[Seen], answer: Answer) {
        let mut frame = Vec::new();
        frame.extend_from_slice(&seen[0].correlation.to_be_bytes());
        frame.extend_from_slice(&(seen.len() as i32).to_be_bytes());
        for batch in seen {
            frame.extend_from_slice(&(batch.topic.len() as i16).to_be_bytes());
            frame.extend_from_slice(batch.topic.as_bytes());
            frame.extend_from_slice(&1i32.to_be_bytes());
            frame.extend_from_slice(&batch.partition.to_be_bytes());
            frame.extend_from_slice(&answer.code.to_be_bytes());
            frame.extend_from_slice(&answer.base_offset.to_be_bytes());
            frame.extend_from_slice(&(-1i64).to_be_bytes());
            if self.produce_version >= 5 {
                frame.extend_from_slice(&answer.log_start_offset.to_be_bytes());
            }
        }
        frame.extend_from_slice(&answer.throttle_ms.to_be_bytes());
        self.deliver(connection, &frame);
    }

    pub fn deliver(&mut self, connection: u64, frame: &[u8]) {
        let socket = self.engine.transport().sockets.get_mut(&connection).unwrap();
        socket.incoming.extend((frame.len() as u32).to_be_bytes());
        socket.incoming.extend(frame);
        self.engine.on_socket(connection, true, false);
        self.engine.run_once();
    }

    pub fn resume(
        &mut self,
        report: &LaneReport,
        decide: impl Fn(usize) -> Decision,
        renumber: Option<(Identity, i32)>,
    ) {
        let decisions = report
            .batches
            .iter()
            .enumerate()
            .map(|(at, batch)| BatchDecision { batch_id: batch.batch_id, action: decide(at) });
        let renumber = renumber.map(|(Identity { producer_id, epoch }, first_sequence)| Renumber {
            producer_id,
            epoch,
            first_sequence,
        });
        self.command(Command::ResumeLane {
            topic: "t".into(),
            partition: report.partition,
            decisions: decisions.collect(),
            renumber,
            delay_ms: 0,
        });
    }
}

/// To a broker on this machine; TCP must be up within a second.
pub fn connect_command(connection_id: u64, broker_id: i32) -> Command {
    let ip = Ipv4Addr::LOCALHOST.into();
    Command::Connect { connection_id, broker_id, ip, port: 9092, setup_timeout_ms: 1_000 }
}

pub fn parse_produce(frame: &[u8], into: &mut Vec<Seen>) {
    let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    let short = |at: usize| i16::from_be_bytes(frame[at..at + 2].try_into().unwrap());
    assert!(short(0) == 0 && (3..9).contains(&short(2)), "a Produce request of one of the versions 3 to 8");
    let correlation = int(4);
    let mut at = 8 + 2 + short(8) as usize + 2 + 2 + 4;
    let topics = int(at);
    at += 4;
    for _ in 0..topics {
        let len = short(at) as usize;
        let topic = String::from_utf8(frame[at + 2..at + 2 + len].to_vec()).unwrap();
        at += 2 + len;
        let partitions = int(at);
        at += 4;
        for _ in 0..partitions {
            let (partition, size) = (int(at), int(at + 4) as usize);
            let batch = &frame[at + 8..at + 8 + size];
            at += 8 + size;
            into.push(Seen {
                correlation,
                topic: topic.clone(),
                partition,
                producer_id: i64::from_be_bytes(batch[43..51].try_into().unwrap()),
                epoch: i16::from_be_bytes(batch[51..53].try_into().unwrap()),
                sequence: i32::from_be_bytes(batch[53..57].try_into().unwrap()),
                records: i32::from_be_bytes(batch[57..61].try_into().unwrap()),
                bytes: batch.to_vec(),
            });
        }
    }
    assert_eq!(at, frame.len());
}

pub fn offset(completion: &Completion) -> Option<i64> {
    match completion.outcome() {
        Some(Outcome::Delivered { base_offset, .. }) => Some(*base_offset),
        _ => None,
    }
}

/// The connections that ended, with the reasons.
pub fn ended(events: &[Event]) -> Vec<(u64, String)> {
    let closed = events.iter().filter_map(|event| match event {
        Event::ConnectionClosed { connection_id, reason, .. } => Some((*connection_id, reason.clone())),
        _ => None,
    });
    closed.collect()
}
