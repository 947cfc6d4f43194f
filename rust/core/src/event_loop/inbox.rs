//! The way from any thread to an event loop: tokens go into the loop's inbox, and one wake-up makes the loop read it.
//!
//! At most one wake-up is outstanding, however many tokens there are and however late the loop reads them. A loop that
//! can watch a descriptor watches the inbox's; for one that cannot, a thread waits in its place. The meaning of a token
//! is not known here. The poster may hold other locks: the wake-up is sent after they are released ([`Notices`]),
//! because it is a system call.

use std::sync::Arc;

use crate::sync::{Condvar, Mutex, Rank};

/// A call that is due in a loop, opaque here: the binding keeps the object under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoopToken(pub usize);

/// How a loop's sleep is ended.
#[derive(Debug)]
enum WakeUp {
    /// A byte in a socket pair; the loop watches the receiving end.
    #[cfg(unix)]
    Socket { sender: std::os::unix::net::UnixStream, receiver: std::os::unix::net::UnixStream },
    /// A thread waits in [`LoopInbox::wait`].
    Thread,
}

/// The calls that are due in one event loop.
#[derive(Debug)]
pub struct LoopInbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
    wake_up: WakeUp,
}

#[derive(Debug, Default)]
struct InboxState {
    tokens: Vec<LoopToken>,
    /// A wake-up was sent, and the loop has not read the inbox since.
    wake_up_pending: bool,
    /// The thread in the loop's place has received it.
    received: bool,
    closed: bool,
}

impl LoopInbox {
    /// For a loop that can watch a descriptor.
    #[cfg(unix)]
    pub fn with_descriptor() -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok(Self::new(WakeUp::Socket { sender, receiver }))
    }

    /// For a loop in whose place a thread waits.
    pub fn with_thread() -> Arc<Self> {
        Self::new(WakeUp::Thread)
    }

    fn new(wake_up: WakeUp) -> Arc<Self> {
        let state = Mutex::ranked(Rank::Loop, InboxState::default());
        Arc::new(Self { state, arrived: Condvar::new(), wake_up })
    }

    /// The descriptor that the loop watches for reading; `None` where a thread waits.
    #[cfg(unix)]
    pub fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        use std::os::fd::AsRawFd;
        match &self.wake_up {
            WakeUp::Socket { receiver, .. } => Some(receiver.as_raw_fd()),
            WakeUp::Thread => None,
        }
    }

    /// Add tokens, and wake the loop unless a wake-up is pending.
    pub fn post(&self, tokens: impl IntoIterator<Item = LoopToken>) {
        if self.put(tokens) {
            self.wake();
        }
    }

    /// Add tokens. True: the loop has to be woken, by [`LoopInbox::wake`].
    #[must_use]
    fn put(&self, tokens: impl IntoIterator<Item = LoopToken>) -> bool {
        let mut state = self.state.lock();
        state.tokens.extend(tokens);
        // A loop that has ended needs no wake-up; the last reader drops the rest (`take`).
        !std::mem::replace(&mut state.wake_up_pending, true) && !state.closed
    }

    fn wake(&self) {
        match &self.wake_up {
            #[cfg(unix)]
            WakeUp::Socket { sender, .. } => {
                use std::io::Write;
                // At most one byte is under way, so that there is room. A loop that has ended needs no wake-up.
                let _ = (&*sender).write(&[1]);
            }
            WakeUp::Thread => self.arrived.notify_all(),
        }
    }

    /// Up to `limit` tokens, the oldest first, and whether there are more. If there are, the wake-up stays pending: the
    /// caller reads again soon.
    pub fn take(&self, limit: usize) -> (Vec<LoopToken>, bool) {
        // The byte first: a token that arrives after the tokens are taken sends a new one.
        #[cfg(unix)]
        if let WakeUp::Socket { receiver, .. } = &self.wake_up {
            use std::io::Read;
            let _ = (&*receiver).read(&mut [0; 8]);
        }
        let mut state = self.state.lock();
        if state.tokens.len() <= limit {
            (state.wake_up_pending, state.received) = (false, false);
            return (std::mem::take(&mut state.tokens), false);
        }
        let rest = state.tokens.split_off(limit);
        (std::mem::replace(&mut state.tokens, rest), true)
    }

    /// Wait for the next wake-up, in the loop's place. False: the inbox is closed.
    pub fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.closed && (!state.wake_up_pending || state.received) {
            self.arrived.wait(&mut state);
        }
        state.received = true;
        !state.closed
    }

    /// The loop has ended: no more wake-ups.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }
}

/// A token for a loop's inbox, posted when something happens.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The loop's inbox.
    pub inbox: Arc<LoopInbox>,
    /// Goes into it.
    pub token: LoopToken,
}

/// Notices that are due. They are posted after the locks are released under which they became due.
#[derive(Debug, Default)]
#[must_use]
pub struct Notices(pub Vec<Notice>);

impl Notices {
    /// Post them, in order; each loop is woken once.
    pub fn post(self) {
        let mut due = self.0;
        while let Some(first) = due.first() {
            let inbox = Arc::clone(&first.inbox);
            // Nearly always one loop: then nothing is left, and nothing was copied.
            let mut others = Vec::new();
            let wake = inbox.put(due.drain(..).filter_map(|notice| {
                if Arc::ptr_eq(&notice.inbox, &inbox) {
                    return Some(notice.token);
                }
                others.push(notice);
                None
            }));
            if wake {
                inbox.wake();
            }
            due = others;
        }
    }
}

#[cfg(all(test, not(feature = "models")))]
mod tests {
    use super::*;

    fn all(inbox: &LoopInbox) -> Vec<LoopToken> {
        inbox.take(usize::MAX).0
    }

    #[test]
    #[cfg(unix)]
    fn a_burst_wakes_once_until_the_inbox_is_read() {
        use std::io::Read;
        let inbox = LoopInbox::with_descriptor().unwrap();
        let bytes = |inbox: &LoopInbox| match &inbox.wake_up {
            WakeUp::Socket { receiver, .. } => (&*receiver).read(&mut [0; 8]).unwrap_or(0),
            WakeUp::Thread => unreachable!(),
        };
        inbox.post([1, 2].map(LoopToken));
        inbox.post([3].map(LoopToken));
        assert_eq!(bytes(&inbox), 1);
        assert_eq!(all(&inbox), [1, 2, 3].map(LoopToken));
        inbox.post([4].map(LoopToken));
        assert_eq!(bytes(&inbox), 1);
        assert_eq!(all(&inbox), [4].map(LoopToken));
        inbox.close();
        inbox.post([5].map(LoopToken));
        assert_eq!(bytes(&inbox), 0, "the loop has ended");
        assert_eq!(all(&inbox), [5].map(LoopToken));
    }

    #[test]
    fn tokens_beyond_the_limit_stay_without_another_wake_up() {
        let inbox = LoopInbox::with_thread();
        inbox.post([1, 2, 3].map(LoopToken));
        assert!(inbox.wait());
        assert_eq!(inbox.take(2), ([1, 2].map(LoopToken).to_vec(), true));
        assert!(!inbox.put([4].map(LoopToken)), "the reader comes again anyway");
        assert_eq!(inbox.take(2), ([3, 4].map(LoopToken).to_vec(), false));
        inbox.post([5].map(LoopToken));
        assert!(inbox.wait());
        inbox.close();
        assert!(!inbox.wait());
    }

    #[test]
    fn notices_reach_the_loop_of_each_in_order() {
        let (one, other) = (LoopInbox::with_thread(), LoopInbox::with_thread());
        let notice = |inbox: &Arc<LoopInbox>, number| Notice { inbox: Arc::clone(inbox), token: LoopToken(number) };
        Notices(vec![notice(&one, 1), notice(&other, 2), notice(&one, 3)]).post();
        assert_eq!((all(&one), all(&other)), ([1, 3].map(LoopToken).to_vec(), [2].map(LoopToken).to_vec()));
    }
}
