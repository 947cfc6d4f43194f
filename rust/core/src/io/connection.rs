//! One connection without its socket: bytes to write, bytes read, and awaited answers.
//!
//! A broker answers a connection in order, so the requests form a FIFO and an answer with another correlation id means
//! that the stream cannot be trusted any more: the connection is closed, and nothing else.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::io::frames::{Frames, ReadEnd};
use crate::io::transport::Transport;
use crate::lane::Lane;
use crate::lane::fate::Fate;
use crate::wire::produce::Segment;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// TCP is being set up.
    Connecting,
    /// Before [`Command::Ready`](crate::boundary::Command::Ready).
    Handshake,
    /// Carries Produce.
    Ready,
}

/// One batch of a Produce request.
#[derive(Debug)]
pub struct SentBatch {
    /// Its lane.
    pub lane: Arc<Lane>,
    /// Its id there.
    pub batch_id: u64,
    /// The topic's id in the request.
    pub topic_id: [u8; 16],
    /// The request has the topic's name in place of its id.
    pub by_name: bool,
    /// The answer has named it.
    pub answered: bool,
}

/// The request that an answer belongs to.
#[derive(Debug)]
pub enum RequestKind {
    /// Produce, in this version.
    Produce {
        /// API version.
        version: i16,
        /// Its batches.
        batches: Vec<SentBatch>,
    },
    /// An opaque request of the control plane's.
    Control,
}

/// A request without an answer yet.
#[derive(Debug)]
pub struct Request {
    /// Its correlation id.
    pub correlation_id: i32,
    /// See there.
    pub kind: RequestKind,
    /// How long its answer may take: see [`Connection::timed_out`].
    timeout_us: u64,
    /// When it was queued.
    pub sent_us: u64,
    /// Positions in the stream of bytes written.
    from: u64,
    to: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    /// Never used twice.
    pub id: u64,
    /// -1 for a bootstrap address.
    pub broker: i32,
    /// For messages.
    pub address: SocketAddr,
    /// How far it has come.
    pub stage: Stage,
    /// While connecting: when it must be up.
    pub setup_deadline_us: u64,
    /// Once ready.
    pub produce_version: i16,
    /// KIP-219: no Produce before this.
    pub throttled_until_us: u64,
    /// For connections.max.idle.ms.
    pub last_used_us: u64,
    /// Awaited answers, the oldest first.
    pub requests: VecDeque<Request>,
    /// How many Produce requests may be unanswered at once.
    pub window: usize,
    /// How many may be in the end: max.in.flight.requests.per.connection.
    full_window: usize,
    /// Since when the first request in [`Connection::requests`] waits without progress.
    waits_since_us: u64,
    /// When Produce was answered for the first time; without answers: when it had left.
    worked_since_us: Option<u64>,
    next_correlation: i32,
    out: VecDeque<Segment>,
    out_offset: usize,
    queued: u64,
    written: u64,
    /// The socket takes no more until its next event.
    blocked: bool,
    input: Frames,
}

/// How long a connection without answers lasts at least before it counts as one that works.
const LASTED_US: u64 = 1_000_000;

/// How many slices one write call gets (Linux takes up to 1,024; beyond a few dozen it gains nothing).
const SLICES: usize = 64;

impl Connection {
    /// A connection that is being set up.
    pub fn new(id: u64, broker: i32, address: SocketAddr, now_us: u64, setup_deadline_us: u64) -> Self {
        Self {
            id,
            broker,
            address,
            stage: Stage::Connecting,
            setup_deadline_us,
            produce_version: -1,
            throttled_until_us: 0,
            last_used_us: now_us,
            requests: VecDeque::new(),
            window: 0,
            full_window: 0,
            waits_since_us: 0,
            worked_since_us: None,
            next_correlation: 0,
            out: VecDeque::new(),
            out_offset: 0,
            queued: 0,
            written: 0,
            blocked: false,
            input: Frames::default(),
        }
    }

    /// The next correlation id for Produce. The control plane has finished with this connection by then.
    pub fn correlation_id(&mut self) -> i32 {
        self.next_correlation = (self.next_correlation + 1) & 0x3fff_ffff;
        self.next_correlation
    }

    /// Queue a request.
    pub fn send(
        &mut self,
        correlation_id: i32,
        kind: RequestKind,
        segments: Vec<Segment>,
        now_us: u64,
        timeout_us: u64,
    ) {
        let from = self.queued;
        self.queued += segments.iter().map(|segment| segment.bytes().len() as u64).sum::<u64>();
        self.out.extend(segments);
        self.last_used_us = now_us;
        if self.requests.is_empty() {
            self.begin_waiting(now_us);
        }
        self.requests.push_back(Request { correlation_id, kind, timeout_us, sent_us: now_us, from, to: self.queued });
    }

    /// The fate of a request's batches if the connection ends now.
    pub fn fate(&self, request: &Request) -> Fate {
        if self.written >= request.to {
            Fate::Unknown
        } else if self.written > request.from {
            Fate::PartlyWritten
        } else {
            Fate::Unsent
        }
    }

    /// Whether all of a request is written (acks=0 needs no more).
    pub fn is_written(&self, request: &Request) -> bool {
        self.written >= request.to
    }

    // ----------------------------------------------------------------------------------------- answers, time-outs

    /// The first request is answered: it is taken out.
    pub fn take_answered(&mut self, now_us: u64) -> Option<Request> {
        self.begin_waiting(now_us);
        self.requests.pop_front()
    }

    /// The first request gets its whole time from now on; from the end of a throttle on, if there is one.
    pub fn begin_waiting(&mut self, now_us: u64) {
        self.waits_since_us = now_us.max(self.throttled_until_us);
    }

    /// Why the first request will get no answer: its time is over.
    ///
    /// It begins when the last byte is written and the request before it is answered, since a broker answers in order.
    /// A slow link takes its time for the bytes. Until they are written, no time-out but that of a socket that takes none.
    pub fn timed_out(&self, now_us: u64) -> Option<String> {
        let first = self.requests.front()?;
        let us = now_us.saturating_sub(self.waits_since_us);
        if us < first.timeout_us {
            return None;
        }
        let ms = us / 1000;
        Some(if self.is_written(first) {
            format!("no answer within {ms} ms (request.timeout.ms)")
        } else {
            let left = first.to - self.written;
            format!("{left} bytes of a request could not be written within {ms} ms (request.timeout.ms)")
        })
    }

    /// It carries Produce: `window` requests at once, after each answer one more, up to `full`.
    pub fn open_window(&mut self, window: usize, full: usize) {
        (self.window, self.full_window) = (window, full);
    }

    /// A Produce request is answered, or has left where no answer comes.
    pub fn produce_answered(&mut self, now_us: u64) {
        self.window = (self.window + 1).min(self.full_window);
        self.worked_since_us.get_or_insert(now_us);
    }

    /// Whether a broker has answered Produce on it. Without answers (acks=0) a connection that lasts counts as one that
    /// works: bytes leave into any socket.
    pub fn has_worked(&self, acks: i16, now_us: u64) -> bool {
        let lasted_us = if acks == 0 { LASTED_US } else { 0 };
        self.worked_since_us.is_some_and(|since_us| now_us.saturating_sub(since_us) >= lasted_us)
    }

    /// Whether anything waits to be written and the socket may take it.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty() && !self.blocked
    }

    /// The socket takes bytes again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Write until all is out or the socket is full. Returns the bytes written.
    pub fn write(&mut self, transport: &mut impl Transport, now_us: u64) -> io::Result<u64> {
        let before = self.written;
        while !self.out.is_empty() && !self.blocked {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slot, segment) in slices.iter_mut().zip(&self.out) {
                let bytes = segment.bytes();
                *slot = IoSlice::new(if count == 0 { &bytes[self.out_offset..] } else { bytes });
                count += 1;
            }
            match transport.write(self.id, &slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written, now_us),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.written - before)
    }

    fn advance(&mut self, written: usize, now_us: u64) {
        if self.requests.front().is_some_and(|first| !self.is_written(first)) {
            self.begin_waiting(now_us);
        }
        self.written += written as u64;
        self.out_offset += written;
        // A segment is dropped only here, when the socket has taken it whole: this makes recycling safe.
        while let Some(front) = self.out.front() {
            let len = front.bytes().len();
            if self.out_offset < len {
                break;
            }
            self.out_offset -= len;
            self.out.pop_front();
        }
    }

    /// Read what the socket holds: see [`Frames::read`].
    pub fn read(&mut self, transport: &mut impl Transport, scratch: &mut [u8]) -> io::Result<ReadEnd> {
        self.input.read(scratch, |into| transport.read(self.id, into))
    }

    /// The next whole frame, without its length: see [`Frames::next_frame`].
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.input.next_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes in all, then blocks.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Transport for Narrow {
        fn connect(&mut self, _: u64, _: SocketAddr) -> io::Result<()> {
            Ok(())
        }
        fn connected(&mut self, _: u64) -> io::Result<bool> {
            Ok(true)
        }
        fn write(&mut self, _: u64, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut count = 0;
            for slice in bytes {
                let take = slice.len().min(self.room);
                self.taken.extend_from_slice(&slice[..take]);
                self.room -= take;
                count += take;
            }
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }
        fn read(&mut self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn close(&mut self, _: u64) {}
    }

    fn connection() -> Connection {
        Connection::new(1, 1, "127.0.0.1:9".parse().unwrap(), 0, 0)
    }

    #[test]
    fn fate_follows_the_bytes_that_left() {
        let mut connection = connection();
        for id in 0..3 {
            connection.send(id, RequestKind::Control, vec![Segment::Owned(vec![id as u8; 10])], 0, 1);
        }
        let mut socket = Narrow { room: 15, taken: vec![] };
        assert_eq!(connection.write(&mut socket, 0).unwrap(), 15);
        assert!(!connection.wants_write());
        let fates: Vec<_> = connection.requests.iter().map(|request| connection.fate(request)).collect();
        assert_eq!(fates, [Fate::Unknown, Fate::PartlyWritten, Fate::Unsent]);
        socket.room = 100;
        connection.unblock();
        assert_eq!(connection.write(&mut socket, 0).unwrap(), 15);
        assert_eq!(socket.taken, [[0; 10], [1; 10], [2; 10]].concat());
    }
}
