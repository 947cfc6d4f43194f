//! `send_many` and `send_arrow`: many records in one call.

pub(crate) mod arrow;
pub(crate) mod buffering;
pub(crate) mod call;
pub(crate) mod column;
pub(crate) mod gathered;
pub(crate) mod many;
pub(crate) mod work;
