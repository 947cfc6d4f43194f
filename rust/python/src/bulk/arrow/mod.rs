//! `send_arrow`: Arrow data becomes records.

pub(crate) mod columns;
pub(crate) mod extension;
pub(crate) mod json;
pub(crate) mod names;
pub(crate) mod plan;
pub(crate) mod python_rows;
pub(crate) mod reading;
pub(crate) mod records;
pub(crate) mod rows;
pub(crate) mod source;
