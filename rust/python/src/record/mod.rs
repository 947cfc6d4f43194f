//! Records: a caller's values, their buffered form, and the frozen values of both ends.

pub(crate) mod arguments;
pub(crate) mod headers;
pub(crate) mod metadata;
pub(crate) mod producer_record;
pub(crate) mod serialize;
pub(crate) mod topic_name;
