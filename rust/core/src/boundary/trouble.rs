//! Why something does not work, as the control plane reports it.

use crate::outcome::FailureKind;

/// Why something does not work at present; the default: nothing is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Kafka's error code, 0 if no broker has given one.
    pub code: i16,
    /// Human-readable.
    pub message: String,
}

impl Trouble {
    /// A trouble without an error code.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: 0, message: message.into() }
    }

    /// Whether there is any.
    pub const fn is_some(&self) -> bool {
        self.code != 0 || !self.message.is_empty()
    }
}

/// The fatal error of a producer.
#[derive(Clone, Debug)]
pub struct Fatal {
    /// Chooses the class of the error.
    pub kind: FailureKind,
    /// The error.
    pub trouble: Trouble,
}
