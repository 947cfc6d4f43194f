//! `penstock._native`: thin PyO3 bindings over `penstock-core`. Shapes are converted here; nothing is decided.
//!
//! The stub is `src/penstock/_native.pyi`, held against this module by `mypy.stubtest`.

// PyO3 passes arguments of Python-facing functions by value.
#![allow(clippy::needless_pass_by_value)]

mod aio;
mod blocking;
mod bulk;
mod exit;
mod loops;
mod record;
mod result;
mod runtime;
mod send;

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// CRC-32C (Castagnoli) of `data`, continuing from `value`. RFC 3720, appendix B.4.
#[pyfunction]
#[pyo3(signature = (data, value = 0))]
fn crc32c(py: Python<'_>, data: &Bound<'_, PyAny>, value: u32) -> PyResult<u32> {
    if let Ok(bytes) = data.cast::<pyo3::types::PyBytes>() {
        return Ok(penstock_core::wire::crc::crc32c_append(value, bytes.as_bytes()));
    }
    let buffer = PyBuffer::<u8>::get(data)?;
    Ok(penstock_core::wire::crc::crc32c_append(value, &buffer.to_vec(py)?))
}

/// Java's `Utils.murmur2`, as a signed 32-bit number.
#[pyfunction]
fn murmur2(data: &[u8]) -> i32 {
    penstock_core::wire::murmur2::murmur2(data)
}

/// The partition that a serialized key goes to (Java: `BuiltInPartitioner.partitionForKey`).
#[pyfunction]
fn partition_for_key(key: &[u8], partitions: u32) -> PyResult<u32> {
    if partitions == 0 {
        return Err(pyo3::exceptions::PyValueError::new_err("partitions must be at least 1"));
    }
    Ok(penstock_core::wire::murmur2::partition_for_key(key, partitions))
}

/// This module's state belongs to the process: only one interpreter may import it. `penstock/_interpreter.py` refuses all but
/// the main one before; this check holds where that one cannot tell them apart. Each interpreter has a `sys` of its own.
fn refuse_another_interpreter(py: Python<'_>) -> PyResult<()> {
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    let mine = py.import("sys")?.as_ptr().addr();
    match FIRST.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
        Err(first) if first != mine => {
            Err(PyImportError::new_err("another interpreter of this process has imported penstock: only one can"))
        }
        _ => Ok(()),
    }
}

/// How this was built, for the tests of packages.
const BUILD: &[(&str, bool)] = &[
    ("abi3", cfg!(feature = "abi3-py311")),
    ("optimized", !cfg!(debug_assertions)),
    // False where .cargo/config.toml was not read, or RUSTFLAGS took its place: slower.
    ("without-reference-pool", cfg!(pyo3_disable_reference_pool)),
];

/// The native half of Penstock.
// It needs the GIL until it has been reviewed for the free-threaded CPython, which turns the GIL on at the import.
#[pymodule(gil_used = true)]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    refuse_another_interpreter(m.py())?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    let build: Vec<&str> = BUILD.iter().filter(|(_, is_so)| *is_so).map(|(word, _)| *word).collect();
    m.add("__build__", PyTuple::new(m.py(), build)?)?;
    m.add_class::<record::producer_record::ProducerRecord>()?;
    m.add_class::<record::metadata::RecordMetadata>()?;
    m.add_class::<blocking::future::DeliveryFuture>()?;
    m.add_class::<blocking::bulk_result::BulkResult>()?;
    m.add_class::<bulk::arrow::records::ArrowRecords>()?;
    m.add_class::<runtime::engine::Engine>()?;
    m.add_class::<blocking::sender::Sender>()?;
    m.add_class::<aio::sender::AsyncSender>()?;
    m.add_class::<aio::future::AsyncDeliveryFuture>()?;
    m.add_class::<aio::bulk_result::AsyncBulkResult>()?;
    m.add_class::<aio::awaitable::Sending>()?;
    m.add_class::<aio::in_loop::InLoop>()?;
    m.add_class::<aio::pending::PendingSend>()?;
    m.add_class::<aio::bulk::PendingBulk>()?;
    m.add_class::<aio::end::PendingEnd>()?;
    m.add_class::<aio::topic::PendingTopic>()?;
    m.add_class::<aio::flush::PendingFlush>()?;
    m.add_class::<loops::inbox::LoopInbox>()?;
    m.add_class::<runtime::stats::StatsReader>()?;
    m.add_class::<runtime::stepped::SteppedEngine>()?;
    m.add_class::<exit::EndOfPython>()?;
    m.add_function(wrap_pyfunction!(crc32c, m)?)?;
    m.add_function(wrap_pyfunction!(murmur2, m)?)?;
    m.add_function(wrap_pyfunction!(partition_for_key, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::compression::compress, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::compression::decompress, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::timeout::timeout_s, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::fork::after_fork_in_child, m)?)?;
    Ok(())
}
