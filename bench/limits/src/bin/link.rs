//! A link between two TUN devices, with delay, loss and rate: what one device sends, the other receives later, or never.
//!
//! `link --one-way-us N [--mbit N] [--loss P] [--queue PACKETS] [--seed N] --control FILE <TUN_A >TUN_B`: the devices are
//! the standard input and output, because that is how a program gets open files without `unsafe`; whoever starts it has
//! opened them for reading and writing (`bench/link.py`). It ends when the control file does (a pipe of its parent).
//! Each line there is answered on stderr with the counters of both directions.
//!
//! Two threads a direction: one reads, one waits for the time of the next packet and writes. The kernel's timer slack is
//! turned off, so that a sleep ends within microseconds of its time and nobody has to spin: the two cores belong to what
//! is measured.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use penstock_bench_limits::line::{Line, Shape, Totals};

/// More than any packet of a TUN device without offloads.
const LARGEST: usize = 65_536;
/// Packets due within this time leave together: a wake-up for each would take more of the processor than the packets do.
const TOGETHER: Duration = Duration::from_micros(10);

struct Direction {
    line: Mutex<Line>,
    arrived: Condvar,
    began: Instant,
}

impl Direction {
    fn new(shape: Shape, seed: u64, began: Instant) -> Arc<Self> {
        Arc::new(Self { line: Mutex::new(Line::new(shape, seed)), arrived: Condvar::new(), began })
    }

    fn locked(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("no thread panics while it holds the lock")
    }

    fn receive(&self, mut from: File) -> io::Result<()> {
        let mut packet = vec![0; LARGEST];
        loop {
            let size = from.read(&mut packet)?;
            if self.locked().arrive(self.began.elapsed(), &packet[..size]) {
                self.arrived.notify_one();
            }
        }
    }

    fn forward(&self, mut to: File) {
        let mut line = self.locked();
        loop {
            let now = self.began.elapsed();
            let wait = match line.due() {
                None => {
                    line = self.arrived.wait(line).expect("no thread panics while it holds the lock");
                    continue;
                }
                Some(due) => due.saturating_sub(now),
            };
            if wait > TOGETHER {
                drop(line);
                thread::sleep(wait);
                line = self.locked();
                continue;
            }
            if let Some(packet) = line.take(now + wait) {
                drop(line);
                // The device may be down, or its receiver's queue full: as on any network, the packet is lost.
                let _written = to.write(&packet);
                line = self.locked();
            }
        }
    }
}

fn main() -> io::Result<()> {
    let (shape, seed, control) = arguments();
    // Threads inherit it. Without the right to write it, sleeps end up to 50 us late, which the counters show.
    let _written = fs::write("/proc/self/timerslack_ns", "1");
    let near = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let far = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let began = Instant::now();
    let there = Direction::new(shape, seed, began);
    let back = Direction::new(shape, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), began);
    for (direction, from, to) in [(&there, &near, &far), (&back, &far, &near)] {
        let (receiving, from, forwarding, to) =
            (Arc::clone(direction), from.try_clone()?, Arc::clone(direction), to.try_clone()?);
        thread::spawn(move || {
            if let Err(error) = receiving.receive(from) {
                eprintln!("link: reading a device failed: {error}");
                process::exit(1);
            }
        });
        thread::spawn(move || forwarding.forward(to));
    }
    eprintln!("{{\"up\": true}}");
    for line in BufReader::new(File::open(control)?).lines() {
        line?;
        eprintln!("{{\"a_to_b\": {}, \"b_to_a\": {}}}", json(there.locked().totals()), json(back.locked().totals()));
    }
    process::exit(0);
}

fn json(totals: Totals) -> String {
    let Totals { packets, bytes, lost, dropped, late_ns, latest_ns } = totals;
    format!(
        "{{\"packets\": {packets}, \"bytes\": {bytes}, \"lost\": {lost}, \"dropped\": {dropped}, \
         \"late_us\": {:.1}, \"latest_us\": {:.1}}}",
        late_ns as f64 / 1e3 / packets.max(1) as f64,
        latest_ns as f64 / 1e3
    )
}

fn arguments() -> (Shape, u64, String) {
    let mut shape = Shape { delay: Duration::ZERO, rate: 0, queue: 256, loss: 0.0 };
    let (mut seed, mut control) = (1, String::new());
    let given: Vec<String> = std::env::args().skip(1).collect();
    for pair in given.chunks(2) {
        let [name, value] = pair else { panic!("{} takes a value", pair[0]) };
        let number = || value.parse::<f64>().unwrap_or_else(|_| panic!("{name} takes a number, not {value}"));
        match name.as_str() {
            "--one-way-us" => shape.delay = Duration::from_secs_f64(number() / 1e6),
            "--mbit" => shape.rate = (number() * 1e6 / 8.0) as u64,
            "--loss" => shape.loss = number(),
            "--queue" => shape.queue = number() as usize,
            "--seed" => seed = number() as u64,
            "--control" => control.clone_from(value),
            _ => panic!("unknown option {name}; there are --one-way-us --mbit --loss --queue --seed --control"),
        }
    }
    assert!(!control.is_empty(), "--control FILE is missing: the link ends when that file does");
    (shape, seed, control)
}
