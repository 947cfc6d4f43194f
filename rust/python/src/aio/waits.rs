//! How the asyncio facade waits: never inside a call. A record that has to wait becomes a `PendingSend`.

use std::sync::Arc;

use penstock_core::topic::Topic;
use pyo3::prelude::*;

use crate::record::topic_name::check_topic;
use crate::send::call::Call;
use crate::send::state::State;
use crate::send::topic::text_of;
use crate::send::waits::Waits;

/// A call that buffers the record at once or not at all.
pub struct AtOnce;

impl Waits for AtOnce {
    /// None: the record has to wait.
    type Failure = Option<Box<PyErr>>;

    fn error(failure: &Self::Failure) -> Option<&PyErr> {
        failure.as_deref()
    }

    fn topic(&self, _state: &State, py: Python<'_>, call: &Call<'_, '_>) -> Result<Arc<Topic>, Self::Failure> {
        match check_topic(py, text_of(py, call.topic)?) {
            Ok(()) => Err(None),
            Err(error) => Err(Some(error.into())),
        }
    }

    fn memory(&self, _state: &State, _py: Python<'_>, _topic: &Topic, _bytes: usize) -> Result<(), Self::Failure> {
        Err(None)
    }
}
