//! Codec workers between senders, the I/O thread and the end: every batch that is closed is compressed once and announced,
//! or left to its worker, which releases its memory.

use std::sync::Arc;

use loom::thread;
use penstock_core::append::{Appended, Record};
use penstock_core::compression::{Codec, Compression, Encoder};
use penstock_core::lane::readiness::NextStep;
use penstock_core::outcome::Completion;
use penstock_core::shared::Shared;
use penstock_core::topic::Topic;

use crate::{WakeUp, config, explore, topic};

const SNAPPY: Compression = Compression { codec: Codec::Snappy, level: 0 };

/// The clock stands at 1 µs; no thread is started, models have their own.
fn compressing() -> Arc<Shared> {
    let shared = Shared::new(penstock_core::config::Config { compression: SNAPPY, ..config() });
    shared.clock.set_us(1);
    shared.encoding.codecs().unwrap().step_by_hand();
    shared
}

/// Of a record that fills a batch of its own, so that it is closed at once.
fn append(shared: &Shared, topic: &Topic) -> Option<Arc<Completion>> {
    let record = Record { timestamp: 1, key: None, value: Some(&[7; 350]), headers: &[] };
    match shared.append(topic, Some(0), &record, None, &mut 0) {
        Appended::Done { completion, .. } => Some(completion),
        Appended::Closed => None,
        Appended::NeedsMemory(_) => panic!("there is enough"),
    }
}

/// A codec worker: `run` of the crate, without what it does about panics.
fn work(shared: &Shared) {
    let mut encoder = Encoder::new(SNAPPY).unwrap();
    let codecs = shared.encoding.codecs().unwrap();
    while let Some((job, _)) = codecs.next() {
        codecs.run(job, shared, &mut encoder).unwrap();
    }
}

#[test]
fn batches_of_two_workers_are_announced_to_a_sleeping_io_thread() {
    explore(2, || {
        let shared = compressing();
        let wake_up = WakeUp::on(&shared);
        let topic = Arc::new(topic());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(&shared))
            })
            .collect();
        for _ in 0..2 {
            append(&shared, &topic);
        }
        // The I/O thread: it takes what is ready in order, and sleeps while nothing is.
        let mut taken = Vec::new();
        while taken.len() < 2 {
            for lane in shared.mailbox.take().ready {
                let mut inner = lane.inner.lock();
                while inner.reschedule(&shared.config.rules, 1, false) == NextStep::Queue {
                    let outgoing = inner.take(None, &shared.config.rules, usize::MAX, 1, 1).unwrap();
                    assert!(outgoing.sealed.ratio() < 0.5, "compressed");
                    taken.push(outgoing.batch_id);
                    let batch = inner.answered(outgoing.batch_id).unwrap();
                    batch.resolve(penstock_core::outcome::Outcome::Split(Vec::new()));
                }
            }
            if taken.len() < 2 && shared.mailbox.prepare_sleep(u64::MAX) {
                wake_up.wait();
            }
            shared.mailbox.awake();
        }
        assert!(taken.is_sorted());
        shared.encoding.codecs().unwrap().close();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_batch_abandoned_in_compression_releases_its_memory_once() {
    explore(3, || {
        let shared = compressing();
        let topic = Arc::new(topic());
        append(&shared, &topic);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(&shared))
        };
        // The I/O thread abandons it, as an expiry or a close does.
        let lane = &topic.lanes[0];
        let mut inner = lane.inner.lock();
        let (mut batch, _) = inner.close().remove(0);
        batch.resolve(penstock_core::outcome::Outcome::Split(Vec::new()));
        let now = batch.settle_memory();
        drop(batch);
        drop(inner);
        shared.release(now);
        shared.encoding.codecs().unwrap().close();
        worker.join().unwrap();
        assert_eq!(shared.pool.available(), shared.pool.total());
        assert!(!shared.mailbox.is_stopped());
    });
}
