//! Everything of Python that this crate looks up by name. `src/penstock/_upcalls.py` says where each name is, and is the only
//! module that is imported from here (but for `lib.rs`, which compares interpreters before anything can be imported).

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A name of `penstock._upcalls`, looked up when it is first needed and kept.
pub struct Upcall {
    name: &'static str,
    found: PyOnceLock<Py<PyAny>>,
}

impl Upcall {
    const fn new(name: &'static str) -> Self {
        Self { name, found: PyOnceLock::new() }
    }

    /// The object.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        match self.found.get(py) {
            Some(found) => Ok(found.bind(py)),
            None => self.look_up(py),
        }
    }

    #[cold]
    fn look_up<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let look = || py.import("penstock._upcalls")?.getattr(self.name).map(Bound::unbind);
        Ok(self.found.get_or_try_init(py, look)?.bind(py))
    }
}

macro_rules! upcalls {
    ($group:ident: $($constant:ident = $name:literal)*) => {
        upcalls! { $($constant = $name)* }
        /// All of them.
        static $group: &[&Upcall] = &[$(&$constant),*];
    };
    ($($constant:ident = $name:literal)*) => {
        $(pub static $constant: Upcall = Upcall::new($name);)*
    };
}

// `tests/unit/test_upcalls.py` reads these lists: each name is in `penstock._upcalls`, and the other way round.
upcalls! { ERRORS:
    BUFFER_EXHAUSTED = "buffer_exhausted"
    BULK_ERROR = "bulk_error"
    DELIVERY_ERROR = "delivery_error"
    ERROR_FOR_CODE = "error_for_code"
    INTERNAL_ERROR = "InternalError"
    INVALID_TOPIC_ERROR = "InvalidTopicError"
    KAFKA_ERROR = "KafkaError"
    KAFKA_TIMEOUT_ERROR = "KafkaTimeoutError"
    METADATA_TIMEOUT = "metadata_timeout"
    NOT_BUFFERED = "not_buffered"
    PRODUCER_CLOSED_ERROR = "ProducerClosedError"
    PRODUCER_FORKED_ERROR = "ProducerForkedError"
    RECORD_TOO_LARGE_ERROR = "RecordTooLargeError"
}

upcalls! { ASYNCIO:
    COPY_CONTEXT = "copy_context"
    HERE = "here"
    NEXT_SLICE = "next_slice"
}

upcalls! {
    ARRAY = "array"
    ASYNCIO_USED = "asyncio_used"
    BOUNDARY = "boundary"
    CANCELLED_ERROR = "CancelledError"
    INVALID_STATE_ERROR = "InvalidStateError"
    LEVELS_LEFT_OUT = "levels_left_out"
    MODULES = "modules"
    PREPARE = "prepare"
    REPORT_CALLBACK_ERROR = "report_callback_error"
    REREAD = "reread"
    RUNNING_LOOP = "running_loop"
    UNTIL_RESOLVED = "until_resolved"
    UUID = "UUID"
    WAITER = "waiter"
}

/// Look up what destructors may need at the interpreter's shutdown, when modules have lost their names: errors, since
/// destructors send, and what `AsyncKafkaProducer` needs, if it was used.
pub fn prepare_for_shutdown(py: Python<'_>) -> PyResult<()> {
    for upcall in ERRORS {
        upcall.get(py)?;
    }
    if ASYNCIO_USED.get(py)?.call0()?.is_truthy()? {
        for upcall in ASYNCIO {
            upcall.get(py)?;
        }
    }
    Ok(())
}
