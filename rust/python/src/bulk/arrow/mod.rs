//! `send_arrow`: Arrow data becomes records.

pub(crate) mod columns;
pub(crate) mod json;
pub(crate) mod plan;
pub(crate) mod rows;
pub(crate) mod source;
