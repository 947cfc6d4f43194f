//! The commands and events of `penstock.control.boundary`, from Python and to Python.
//!
//! Each class is listed once, with the names of its fields. From that list follow both directions, and the compiler holds it
//! against the Rust type: a field that is missing here, or named otherwise, does not compile. The Python class is held
//! against it by [`check`].

mod class;
mod value;

use class::Class;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use value::Value;

use penstock_core::boundary::{
    Action, BatchDecision, BatchReport, Command, Decision, Event, LaneReport, PartitionLeader, Renumber, Trouble,
};
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::FailureKind;
use penstock_core::wire::produce::NodeEndpoint;

use crate::runtime::upcalls;

/// Compare names, order of fields and literals with those of Python; `RuntimeError` names the first difference.
pub fn check(py: Python<'_>) -> PyResult<()> {
    static CHECKED: PyOnceLock<()> = PyOnceLock::new();
    let checked = || {
        for class in structs::ALL.iter().chain(commands::ALL).chain(events::ALL) {
            class.get(py)?;
        }
        for (name, ours) in value::literals() {
            let theirs: Vec<String> = upcalls::BOUNDARY.get(py)?.getattr(name)?.getattr("__args__")?.extract()?;
            if theirs != ours {
                return Err(PyRuntimeError::new_err(format!("{name} is {theirs:?} in Python, {ours:?} in Rust")));
            }
        }
        Ok(())
    };
    CHECKED.get_or_try_init(py, checked).map(drop)
}

/// The `Class` of each class in a list, in a module of this name, and all of them.
macro_rules! classes {
    ($module:ident: $($class:ident { $($field:ident),* })*) => {
        #[expect(non_upper_case_globals, reason = "named as the classes are")]
        mod $module {
            use super::Class;

            $(pub static $class: Class = Class::new(stringify!($class), &[$(stringify!($field)),*]);)*
            pub static ALL: &[&Class] = &[$(&$class),*];
        }
    };
}

/// Structs that have the fields of their Python class.
macro_rules! structs {
    ($($class:ident { $($field:ident),* $(,)? })*) => {
        $(impl Value for $class {
            fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
                let mut fields = structs::$class.fields(of)?;
                Ok(Self { $($field: fields.take()?),* })
            }

            fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                let Self { $($field),* } = self;
                structs::$class.instance(py, vec![$($field.make(py)?),*])
            }
        })*
    };
}

/// `Enum::Class { … }`, or `Enum::Class(Struct { … })`.
macro_rules! variant {
    ($enum:ident $class:ident { $($body:tt)* }) => { $enum::$class { $($body)* } };
    ($enum:ident $class:ident ($inner:ident) { $($body:tt)* }) => { $enum::$class($inner { $($body)* }) };
}

/// An enum with a variant for each class.
macro_rules! messages {
    ($module:ident: $enum:ident, $what:literal; $($class:ident $(($inner:ident))? { $($field:ident),* $(,)? })*) => {
        classes!($module: $($class { $($field),* })*);

        impl Value for $enum {
            fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
                let class = of.get_type().name()?;
                match class.to_str()? {
                    $(stringify!($class) => {
                        let mut fields = $module::$class.fields(of)?;
                        Ok(variant!($enum $class $(($inner))? { $($field: fields.take()?),* }))
                    })*
                    other => Err(PyTypeError::new_err(format!("not {} of the boundary: {other}", $what))),
                }
            }

            fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                match self {
                    $(variant!($enum $class $(($inner))? { $($field),* }) => {
                        $module::$class.instance(py, vec![$($field.make(py)?),*])
                    })*
                }
            }
        }
    };
}

messages! {
    commands: Command, "a command";
    Connect { connection_id, broker_id, ip, port, setup_timeout_ms }
    SendFrame { connection_id, correlation_id, frame, timeout_ms }
    Ready { connection_id, produce_version }
    Close { connection_id, reason }
    SetTopic { name, topic_id, version, partitions }
    FailTopic { name, trouble, is_final }
    ForgetTopic { name }
    SetStatus { trouble }
    SetBrokerStatus { broker_id, trouble }
    SetIdentity(Identity) { producer_id, epoch }
    ResumeLane { topic, partition, decisions, renumber, delay_ms }
    FailBuffered { kind, trouble }
    FailProducer { kind, trouble }
}

messages! {
    events: Event, "an event";
    ConnectionOpened { connection_id }
    ConnectionClosed { connection_id, reason, expected, requested, worked }
    FrameReceived { connection_id, correlation_id, frame }
    ConnectionWanted { broker_id }
    TopicWanted { name, partition }
    LeaderWanted { topics }
    LanesHandedOver { lanes, endpoints }
    EngineFailed { message }
}

macro_rules! all_structs {
    ($($list:tt)*) => {
        structs! { $($list)* }
        classes!(structs: BatchDecision { batch_id, action, kind, code, message, base_offset } $($list)*);
    };
}

all_structs! {
    Trouble { code, message }
    PartitionLeader { leader, leader_epoch, local }
    Renumber { producer_id, epoch, first_sequence }
    BatchReport {
        batch_id, base_sequence, record_count, attempts, fate, error_code, error_message, lost, expired, base_offset,
        current_leader, current_leader_epoch
    }
    LaneReport {
        topic, topic_id, partition, leader, leader_epoch, producer_id, epoch, last_acked_sequence, log_start_offset,
        failures, numbers_used_elsewhere, batches
    }
    NodeEndpoint { broker_id, host, port, rack }
}

impl Value for Option<Renumber> {
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        if of.is_none() { Ok(None) } else { Renumber::read(of).map(Some) }
    }

    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        self.map_or_else(|| Ok(py.None().into_bound(py)), |renumber| renumber.make(py))
    }
}

/// In Python the fields of all actions stand side by side, with defaults.
impl Value for BatchDecision {
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut fields = structs::BatchDecision.fields(of)?;
        let (batch_id, action) = (fields.take()?, fields.take()?);
        let (kind, code, message, base_offset) = (fields.take()?, fields.take()?, fields.take()?, fields.take()?);
        let action = match action {
            Action::Retry => Decision::Retry,
            Action::Fail => Decision::Fail { kind, code, message },
            Action::Complete => Decision::Complete { base_offset },
            Action::Split => Decision::Split,
        };
        Ok(Self { batch_id, action })
    }

    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let (mut kind, mut code, mut message, mut offset) = (FailureKind::Broker, 0_i16, String::new(), -1_i64);
        let action = match self.action {
            Decision::Retry => Action::Retry,
            Decision::Fail { kind: of, code: last, message: why } => {
                (kind, code, message) = (of, last, why);
                Action::Fail
            }
            Decision::Complete { base_offset } => {
                offset = base_offset;
                Action::Complete
            }
            Decision::Split => Action::Split,
        };
        let fields = vec![
            self.batch_id.make(py)?,
            action.make(py)?,
            kind.make(py)?,
            code.make(py)?,
            message.make(py)?,
            offset.make(py)?,
        ];
        structs::BatchDecision.instance(py, fields)
    }
}

/// One command, by the name of its class.
pub fn command(of: &Bound<'_, PyAny>) -> PyResult<Command> {
    Command::read(of)
}

/// One event, as its Python class.
pub fn event(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyAny>> {
    event.make(py)
}

/// A command or an event that has gone into Rust and come back, and its form there as `{:?}` prints it.
pub fn echo<'py>(of: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, String)> {
    let class = of.get_type().name()?;
    if events::ALL.iter().any(|event| event.is_named(class.to_str().unwrap_or_default())) {
        let event = Event::read(of)?;
        let text = format!("{event:?}");
        return Ok((event.make(of.py())?, text));
    }
    let command = Command::read(of)?;
    let text = format!("{command:?}");
    Ok((command.make(of.py())?, text))
}
