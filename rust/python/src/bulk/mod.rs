//! `send_many` and `send_arrow`: many records in one call.

pub(crate) mod arrow;
pub(crate) mod call;
pub(crate) mod many;
