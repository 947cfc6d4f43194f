//! `penstock._native`: PyO3 bindings over `penstock-core`.
use pyo3::prelude::*;

/// The native half of Penstock.
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))
}
