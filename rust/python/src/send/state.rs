//! `State`: a facade's native half once it has its engine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::record::serialize::Serialize;
use crate::runtime::engine_core::Core;
use crate::runtime::errors;
use crate::send::interceptors::Interceptors;
use crate::send::recent::{self, Table};

/// A longer max.block.ms means no limit; a clock may not count that far.
const LONGEST_BLOCK: Duration = Duration::from_secs(3_000_000_000);

/// See the module.
pub struct State {
    pub core: Arc<Core>,
    pub key: Serialize,
    pub value: Serialize,
    /// `choose(topic, key, key_bytes, value, value_bytes) -> int`
    pub partitioner: Option<Py<PyAny>>,
    pub interceptors: Option<Interceptors>,
    /// `warn_waiting(method, topic, partition, status)`, called once a caller has waited a second for a topic.
    pub warn_waiting: Py<PyAny>,
    pub max_block: Duration,
    /// Unique in the process: see [`recent`].
    id: u64,
}

impl State {
    /// Connected with its engine; a serializer comes with the name of its native form.
    pub fn new(
        core: &Arc<Core>,
        key: (Option<&str>, Py<PyAny>),
        value: (Option<&str>, Py<PyAny>),
        partitioner: Option<Py<PyAny>>,
        interceptors: Option<&Bound<'_, PyAny>>,
        warn_waiting: Py<PyAny>,
        max_block_ms: u64,
    ) -> PyResult<Self> {
        Ok(Self {
            core: Arc::clone(core),
            key: Serialize::new(key.0, key.1)?,
            value: Serialize::new(value.0, value.1)?,
            partitioner,
            interceptors: interceptors.map(Interceptors::new).transpose()?,
            warn_waiting,
            max_block: Duration::from_millis(max_block_ms).min(LONGEST_BLOCK),
            id: recent::next_sender(),
        })
    }

    /// Whether interceptors or the application's partitioner have to see each record.
    pub fn records_go_one_by_one(&self, partition: Option<i32>) -> bool {
        self.interceptors.is_some() || (self.partitioner.is_some() && partition.is_none())
    }

    /// Raise if the producer is closed or has failed.
    #[inline]
    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.core.shared;
        if let Some((code, message)) = shared.failures.fatal() {
            return Err(match code {
                -1 => errors::error(py, "InternalError", message, &[]),
                0 => errors::error(py, "KafkaError", message, &[]),
                code => errors::error_for_code(py, *code, message, None),
            });
        }
        if shared.hurry.is_closed() {
            return Err(errors::closed(py));
        }
        Ok(())
    }

    /// The newest version of this sender's table of topics.
    #[inline]
    pub fn table(&self) -> Table {
        self.table_at(self.core.shared.topics.version())
    }

    /// A version of this sender's table of topics.
    #[inline]
    pub fn table_at(&self, version: u64) -> Table {
        Table { sender: self.id, version }
    }
}

/// The state of a facade that was initialised.
#[inline]
pub fn attached<T>(state: &OnceLock<T>) -> PyResult<&T> {
    let why = "the producer was not initialised (is super().__init__() missing?)";
    state.get().ok_or_else(|| PyRuntimeError::new_err(why))
}
