//! The tuples of `penstock.control.boundary`, read and built by name.

use std::net::{IpAddr, SocketAddr};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};

use penstock_core::boundary::{BatchReport, Command, Decision, Event, LaneReport, PartitionLeader};
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::FailureKind;

static TYPES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn types(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    Ok(TYPES.get_or_try_init(py, || py.import("penstock.control.boundary").map(Bound::unbind))?.bind(py))
}

fn field<'py, T>(of: &Bound<'py, PyAny>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
    for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
{
    let value = of.getattr(name)?;
    value.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        PyTypeError::new_err(format!("{}.{name}: {error}", of.get_type()))
    })
}

fn micros(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1000)
}

fn topic_id(of: &Bound<'_, PyAny>, name: &str) -> PyResult<[u8; 16]> {
    let value = of.getattr(name)?;
    let bytes = value.cast::<PyBytes>()?.as_bytes();
    bytes.try_into().map_err(|_| PyTypeError::new_err(format!("{name} has {} bytes, not 16", bytes.len())))
}

/// One command, by the name of its class.
pub fn command(of: &Bound<'_, PyAny>) -> PyResult<Command> {
    let class = of.get_type().name()?;
    Ok(match class.to_str()? {
        "Connect" => {
            let ip: String = field(of, "ip")?;
            let ip: IpAddr = ip.parse().map_err(|_| PyTypeError::new_err(format!("not an IP address: {ip:?}")))?;
            Command::Connect {
                connection: field(of, "connection_id")?,
                broker: field(of, "broker_id")?,
                address: SocketAddr::new(ip, field(of, "port")?),
                setup_timeout_us: micros(field(of, "setup_timeout_ms")?),
            }
        }
        "SendFrame" => Command::SendFrame {
            connection: field(of, "connection_id")?,
            correlation_id: field(of, "correlation_id")?,
            frame: of.getattr("frame")?.cast::<PyBytes>()?.as_bytes().to_vec(),
            timeout_us: micros(field(of, "timeout_ms")?),
        },
        "Ready" => {
            Command::Ready { connection: field(of, "connection_id")?, produce_version: field(of, "produce_version")? }
        }
        "Close" => Command::Close { connection: field(of, "connection_id")?, reason: field(of, "reason")? },
        "SetTopic" => {
            let mut partitions = Vec::new();
            for leader in of.getattr("partitions")?.try_iter()? {
                let leader = leader?;
                partitions.push(PartitionLeader {
                    leader: field(&leader, "leader")?,
                    leader_epoch: field(&leader, "leader_epoch")?,
                    local: field(&leader, "local")?,
                });
            }
            Command::SetTopic {
                name: field(of, "name")?,
                topic_id: topic_id(of, "topic_id")?,
                version: field(of, "version")?,
                partitions,
            }
        }
        "FailTopic" => Command::FailTopic {
            name: field(of, "name")?,
            code: field(of, "code")?,
            message: field(of, "message")?,
            last_word: field(of, "final")?,
        },
        "ForgetTopic" => Command::ForgetTopic { name: field(of, "name")? },
        "SetStatus" => Command::SetStatus { message: field(of, "message")? },
        "SetBrokerStatus" => {
            Command::SetBrokerStatus { broker: field(of, "broker_id")?, message: field(of, "message")? }
        }
        "SetIdentity" => {
            Command::SetIdentity(Identity { producer_id: field(of, "producer_id")?, epoch: field(of, "epoch")? })
        }
        "ResumeLane" => {
            let mut decisions = Vec::new();
            for decision in of.getattr("decisions")?.try_iter()? {
                decisions.push(read_decision(&decision?)?);
            }
            let renumber = of.getattr("renumber")?;
            let renumber = if renumber.is_none() {
                None
            } else {
                let identity =
                    Identity { producer_id: field(&renumber, "producer_id")?, epoch: field(&renumber, "epoch")? };
                Some((identity, field(&renumber, "first_sequence")?))
            };
            Command::ResumeLane {
                topic: field(of, "topic")?,
                partition: field(of, "partition")?,
                decisions,
                renumber,
                delay_us: micros(field(of, "delay_ms")?),
            }
        }
        "FailBuffered" => Command::FailBuffered { code: field(of, "code")?, message: field(of, "message")? },
        "FailProducer" => Command::FailProducer { code: field(of, "code")?, message: field(of, "message")? },
        other => return Err(PyTypeError::new_err(format!("not a command of the boundary: {other}"))),
    })
}

fn read_decision(of: &Bound<'_, PyAny>) -> PyResult<(u64, Decision)> {
    let action: String = field(of, "action")?;
    let decision = match action.as_str() {
        "retry" => Decision::Retry,
        "split" => Decision::Split,
        "complete" => Decision::Complete { base_offset: field(of, "offset")? },
        "fail" => Decision::Fail {
            kind: FailureKind::from_word(&field::<String>(of, "kind")?),
            code: field(of, "error_code")?,
            message: field(of, "message")?,
        },
        other => return Err(PyTypeError::new_err(format!("not an action: {other:?}"))),
    };
    Ok((field(of, "batch_id")?, decision))
}

/// One event, as its Python class.
pub fn event<'py>(py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyAny>> {
    let make = |class: &str, fields: Bound<'py, PyTuple>| types(py)?.getattr(class)?.call1(fields);
    match event {
        Event::ConnectionOpened { connection, broker } => {
            make("ConnectionOpened", (connection, broker).into_pyobject(py)?)
        }
        Event::ConnectionClosed { connection, broker, stage, reason, expected, requested } => make(
            "ConnectionClosed",
            (connection, broker, stage.as_str(), reason, expected, requested).into_pyobject(py)?,
        ),
        Event::FrameReceived { connection, correlation_id, frame } => {
            make("FrameReceived", (connection, correlation_id, PyBytes::new(py, &frame)).into_pyobject(py)?)
        }
        Event::ConnectionWanted { broker } => make("ConnectionWanted", (broker,).into_pyobject(py)?),
        Event::TopicWanted { name, partition } => make("TopicWanted", (name, partition).into_pyobject(py)?),
        Event::LeaderWanted { topics } => make("LeaderWanted", (PyTuple::new(py, topics)?,).into_pyobject(py)?),
        Event::LanesHandedOver { lanes, endpoints } => {
            let mut reports = Vec::with_capacity(lanes.len());
            for lane in lanes {
                reports.push(lane_report(py, lane)?);
            }
            let mut nodes = Vec::with_capacity(endpoints.len());
            for (broker, host, port, rack) in endpoints {
                nodes.push(make("NodeEndpoint", (broker, host, port, rack).into_pyobject(py)?)?);
            }
            make("LanesHandedOver", (PyTuple::new(py, reports)?, PyTuple::new(py, nodes)?).into_pyobject(py)?)
        }
        Event::EngineFailed { message } => make("EngineFailed", (message,).into_pyobject(py)?),
    }
}

fn lane_report(py: Python<'_>, lane: LaneReport) -> PyResult<Bound<'_, PyAny>> {
    let class = types(py)?.getattr("BatchReport")?;
    let mut batches = Vec::with_capacity(lane.batches.len());
    for batch in lane.batches {
        batches.push(class.call1(batch_fields(py, batch)?)?);
    }
    let identity = lane.identity.unwrap_or(Identity { producer_id: -1, epoch: -1 });
    let fields = [
        lane.topic.into_pyobject(py)?.into_any(),
        PyBytes::new(py, &lane.topic_id).into_any(),
        lane.partition.into_pyobject(py)?.into_any(),
        lane.leader.0.into_pyobject(py)?.into_any(),
        lane.leader.1.into_pyobject(py)?.into_any(),
        identity.producer_id.into_pyobject(py)?.into_any(),
        identity.epoch.into_pyobject(py)?.into_any(),
        lane.last_acked_sequence.into_pyobject(py)?.into_any(),
        lane.last_acked_offset.into_pyobject(py)?.into_any(),
        lane.log_start_offset.into_pyobject(py)?.into_any(),
        lane.failures.into_pyobject(py)?.into_any(),
        pyo3::types::PyBool::new(py, lane.numbers_used_elsewhere).to_owned().into_any(),
        PyTuple::new(py, batches)?.into_any(),
    ];
    types(py)?.getattr("LaneReport")?.call1(PyTuple::new(py, fields)?)
}

fn batch_fields(py: Python<'_>, batch: BatchReport) -> PyResult<Bound<'_, PyTuple>> {
    let fields = [
        batch.batch_id.into_pyobject(py)?.into_any(),
        batch.base_sequence.into_pyobject(py)?.into_any(),
        batch.record_count.into_pyobject(py)?.into_any(),
        batch.size.into_pyobject(py)?.into_any(),
        batch.attempts.into_pyobject(py)?.into_any(),
        batch.fate.as_str().into_pyobject(py)?.into_any(),
        batch.error_code.into_pyobject(py)?.into_any(),
        batch.error_message.into_pyobject(py)?.into_any(),
        batch.age_ms.into_pyobject(py)?.into_any(),
        batch.remaining_ms.into_pyobject(py)?.into_any(),
        pyo3::types::PyBool::new(py, batch.expired).to_owned().into_any(),
        batch.base_offset.into_pyobject(py)?.into_any(),
        batch.current_leader.0.into_pyobject(py)?.into_any(),
        batch.current_leader.1.into_pyobject(py)?.into_any(),
    ];
    PyTuple::new(py, fields)
}
