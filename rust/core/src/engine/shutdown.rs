//! The end of the producer: every record that is left fails.

use std::sync::Arc;

use super::Engine;
use crate::boundary::Trouble;
use crate::error_code::NONE;
use crate::io::transport::Transport;
use crate::lane::batch::IN_FLIGHT;
use crate::outcome::FailureKind;

impl<T: Transport> Engine<T> {
    pub(super) fn fail_everything(&mut self, kind: FailureKind, trouble: &Trouble, now_us: u64) {
        let status = self.shared.topics.status();
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            for (batch, stage) in inner.close() {
                let last = batch.last();
                let mut failure = match kind {
                    // The error of a close with a timeout has what the record met last.
                    FailureKind::Closed if last.message.is_empty() => {
                        let code = if last.code == NONE { status.code } else { last.code };
                        batch.failure(kind, code, status.message.clone(), now_us)
                    }
                    FailureKind::Closed => batch.failure(kind, last.code, last.message.clone(), now_us),
                    _ => batch.failure(kind, trouble.code, trouble.message.clone(), now_us),
                };
                failure.possibly_persisted |= stage == IN_FLIGHT;
                self.shared.finish_failed(batch, stage, failure);
            }
            lane.publish_load(&inner);
        }
    }

    /// `close` does not wait any longer.
    pub fn shut_down(&mut self) {
        let now_us = self.shared.clock.now_us();
        self.fail_everything(FailureKind::Closed, &Trouble::default(), now_us);
        let open: Vec<u64> = self.connections.keys().copied().collect();
        for id in open {
            self.close(id, "the producer was closed", true, now_us);
        }
        self.report();
        self.shared.callbacks.close();
    }

    /// A bug: fail every record and take no more.
    pub fn fail_engine(&mut self, message: &str) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        let (kind, trouble) = (FailureKind::Internal, Trouble::new(message));
        self.shared.set_fatal(kind, trouble.clone());
        let now_us = self.shared.clock.now_us();
        self.fail_everything(kind, &trouble, now_us);
    }
}
