//! The way from any thread to an event loop: what is due there is put into its inbox, and one ring of the bell wakes it,
//! however much that is and however long the loop takes to look.
//!
//! A loop that can watch a descriptor watches the bell's; for one that cannot, a thread waits in its place. Nothing here
//! knows what a token stands for. Whoever puts one in may hold other locks: the bell is rung after they are let go
//! ([`Notices`]), because ringing is a system call.

use std::sync::Arc;

use crate::outcome::completion::Token;
use crate::sync::{Condvar, Mutex, Rank};

/// How a loop's sleep is ended.
#[derive(Debug)]
enum Bell {
    /// A byte on its way through a socket pair; the loop watches the receiving end.
    #[cfg(unix)]
    Socket { ring: std::os::unix::net::UnixStream, heard: std::os::unix::net::UnixStream },
    /// A thread waits in [`LoopInbox::wait`].
    Thread,
}

/// What is due in one event loop.
#[derive(Debug)]
pub struct LoopInbox {
    state: Mutex<State>,
    arrived: Condvar,
    bell: Bell,
}

#[derive(Debug, Default)]
struct State {
    tokens: Vec<Token>,
    /// The bell has been rung, and the loop has not looked since.
    rung: bool,
    /// The thread in the loop's place has heard it.
    heard: bool,
    closed: bool,
}

impl LoopInbox {
    /// For a loop that can watch a descriptor.
    #[cfg(unix)]
    pub fn with_descriptor() -> std::io::Result<Arc<Self>> {
        let (ring, heard) = std::os::unix::net::UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self::new(Bell::Socket { ring, heard }))
    }

    /// For a loop in whose place a thread waits.
    pub fn with_thread() -> Arc<Self> {
        Self::new(Bell::Thread)
    }

    fn new(bell: Bell) -> Arc<Self> {
        Arc::new(Self { state: Mutex::ranked(Rank::Loop, State::default()), arrived: Condvar::new(), bell })
    }

    /// What the loop is to watch for reading; `None` where a thread waits.
    #[cfg(unix)]
    pub fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        use std::os::fd::AsRawFd;
        match &self.bell {
            Bell::Socket { heard, .. } => Some(heard.as_raw_fd()),
            Bell::Thread => None,
        }
    }

    /// Put something in and wake the loop, unless it has been told already.
    pub fn post(&self, tokens: impl IntoIterator<Item = Token>) {
        if self.put(tokens) {
            self.ring();
        }
    }

    /// Put something in. True: the loop has to be woken, by [`LoopInbox::ring`].
    #[must_use]
    fn put(&self, tokens: impl IntoIterator<Item = Token>) -> bool {
        let mut state = self.state.lock();
        state.tokens.extend(tokens);
        // A loop that has ended hears nothing; what is left here is dropped by whoever may (`take`).
        !std::mem::replace(&mut state.rung, true) && !state.closed
    }

    fn ring(&self) {
        match &self.bell {
            #[cfg(unix)]
            Bell::Socket { ring, .. } => {
                use std::io::Write;
                // One byte is under way at most, so that there is room; a loop that is gone needs no bell.
                let _ = (&*ring).write(&[1]);
            }
            Bell::Thread => self.arrived.notify_all(),
        }
    }

    /// Up to `limit` tokens, the oldest first, and whether there are more. If so the bell counts as rung: look again soon.
    pub fn take(&self, limit: usize) -> (Vec<Token>, bool) {
        // The byte first: what is put in after the look below rings anew.
        #[cfg(unix)]
        if let Bell::Socket { heard, .. } = &self.bell {
            use std::io::Read;
            let _ = (&*heard).read(&mut [0; 8]);
        }
        let mut state = self.state.lock();
        if state.tokens.len() <= limit {
            (state.rung, state.heard) = (false, false);
            return (std::mem::take(&mut state.tokens), false);
        }
        let rest = state.tokens.split_off(limit);
        (std::mem::replace(&mut state.tokens, rest), true)
    }

    /// Wait for the next ring of the bell, in the loop's place. False: the inbox is closed.
    pub fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.closed && (!state.rung || state.heard) {
            self.arrived.wait(&mut state);
        }
        state.heard = true;
        !state.closed
    }

    /// The loop has ended: no more bells.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }
}

/// Something that is to be put into a loop's inbox when it happens.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Whose.
    pub inbox: Arc<LoopInbox>,
    /// What.
    pub token: Token,
}

/// Notices that are due, to be given once the locks are let go under which they became so.
#[derive(Debug, Default)]
#[must_use]
pub struct Notices(pub Vec<Notice>);

impl Notices {
    /// Give them, in order; a loop is woken once.
    pub fn give(self) {
        let mut due = self.0;
        while let Some(first) = due.first() {
            let inbox = Arc::clone(&first.inbox);
            // Nearly always one loop: then nothing is left, and nothing was copied.
            let mut others = Vec::new();
            let ring = inbox.put(due.drain(..).filter_map(|notice| {
                if Arc::ptr_eq(&notice.inbox, &inbox) {
                    return Some(notice.token);
                }
                others.push(notice);
                None
            }));
            if ring {
                inbox.ring();
            }
            due = others;
        }
    }
}

/// How long the coroutines of one thread may go on without giving their loop a turn: a `send` that need not wait, and a
/// future that is done, would never suspend by themselves.
///
/// Time is told in ms of whatever clock the caller has at hand; it may jump.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// When the loop had its last turn, or the first look since.
    since_ms: Option<i64>,
    steps: u32,
    /// It is over since then: everybody yields until the loop has had a turn.
    over_ms: Option<i64>,
}

/// What a step is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Go,
    /// The turn is over with this step: have [`Turn::begin`] called by the loop, then yield. Twice, so that of several
    /// coroutines another one gets the next turn.
    Over,
    /// It was over before: yield.
    Yield,
}

impl Default for Turn {
    fn default() -> Self {
        Self::NEW
    }
}

impl Turn {
    /// Nothing has happened in it.
    pub const NEW: Self = Self { since_ms: None, steps: 0, over_ms: None };
    /// Ticks of the clock that a turn lasts: 1 ms at most. Two turns may follow each other before somebody else's.
    const TICKS: u64 = 1;
    /// Coroutines that send now and then have given their loop a turn without our seeing it.
    const FEW: u32 = 4;
    /// After that long the loop that was to begin a new turn is taken to have ended.
    const LOST_MS: u64 = 50;

    /// One step more, at `now_ms`.
    pub fn step(&mut self, now_ms: i64) -> Step {
        if let Some(over_ms) = self.over_ms {
            if now_ms.abs_diff(over_ms) < Self::LOST_MS {
                return Step::Yield;
            }
            self.over_ms = Some(now_ms);
            return Step::Over;
        }
        self.steps += 1;
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        if self.steps < Self::FEW || now_ms.abs_diff(since_ms) < Self::TICKS {
            return Step::Go;
        }
        self.over_ms = Some(now_ms);
        Step::Over
    }

    /// The loop had a turn.
    pub fn begin(&mut self) {
        *self = Self::NEW;
    }

    /// The loop had a turn, says something that happens many times in one: believed if little has happened since.
    pub fn passed(&mut self) {
        if self.over_ms.is_none() && self.steps < 16 * Self::FEW {
            self.begin();
        }
    }

    /// Steps since the loop had its last turn.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// A step whose time is not looked at.
    pub fn count(&mut self) {
        self.steps += 1;
    }

    /// Whether everybody yields.
    pub fn is_over(&self) -> bool {
        self.over_ms.is_some()
    }
}

#[cfg(all(test, not(feature = "models")))]
mod tests {
    use super::*;

    fn heard(inbox: &LoopInbox) -> Vec<Token> {
        inbox.take(usize::MAX).0
    }

    #[test]
    #[cfg(unix)]
    fn a_burst_rings_once_and_a_look_ends_it() {
        use std::io::Read;
        let inbox = LoopInbox::with_descriptor().unwrap();
        let bytes = |inbox: &LoopInbox| match &inbox.bell {
            Bell::Socket { heard, .. } => (&*heard).read(&mut [0; 8]).unwrap_or(0),
            Bell::Thread => unreachable!(),
        };
        inbox.post([1, 2]);
        inbox.post([3]);
        assert_eq!(bytes(&inbox), 1);
        assert_eq!(heard(&inbox), [1, 2, 3]);
        inbox.post([4]);
        assert_eq!(bytes(&inbox), 1);
        assert_eq!(heard(&inbox), [4]);
        inbox.close();
        inbox.post([5]);
        assert_eq!(bytes(&inbox), 0, "nobody hears it any more");
        assert_eq!(heard(&inbox), [5]);
    }

    #[test]
    fn what_is_too_much_for_one_look_stays_without_another_ring() {
        let inbox = LoopInbox::with_thread();
        inbox.post([1, 2, 3]);
        assert!(inbox.wait());
        assert_eq!(inbox.take(2), (vec![1, 2], true));
        assert!(!inbox.put([4]), "whoever took it looks again anyway");
        assert_eq!(inbox.take(2), (vec![3, 4], false));
        inbox.post([5]);
        assert!(inbox.wait());
        inbox.close();
        assert!(!inbox.wait());
    }

    #[test]
    fn notices_reach_the_loop_of_each_in_order() {
        let (one, other) = (LoopInbox::with_thread(), LoopInbox::with_thread());
        let notice = |inbox: &Arc<LoopInbox>, token| Notice { inbox: Arc::clone(inbox), token };
        Notices(vec![notice(&one, 1), notice(&other, 2), notice(&one, 3)]).give();
        assert_eq!((heard(&one), heard(&other)), (vec![1, 3], vec![2]));
    }

    #[test]
    fn a_turn_is_over_with_the_next_tick_and_until_the_loop_has_had_one() {
        let mut turn = Turn::NEW;
        assert!((0..1000).all(|_| turn.step(10) == Step::Go));
        assert_eq!(turn.step(11), Step::Over);
        assert_eq!(turn.step(11), Step::Yield);
        turn.passed();
        assert_eq!(turn.step(12), Step::Yield);
        turn.begin();
        assert_eq!(turn.step(20), Step::Go);
    }

    #[test]
    fn who_sends_now_and_then_does_not_yield() {
        let mut turn = Turn::NEW;
        for now_ms in 0..100 {
            assert_eq!(turn.step(10 * now_ms), Step::Go);
            turn.passed();
        }
    }

    #[test]
    fn a_turn_that_a_loop_never_took_is_asked_for_again() {
        let mut turn = Turn::NEW;
        while turn.step(i64::from(turn.steps())) == Step::Go {}
        assert_eq!(turn.step(20), Step::Yield);
        assert_eq!(turn.step(100), Step::Over);
        assert_eq!(turn.step(0), Step::Over, "the clock was set back");
    }
}
