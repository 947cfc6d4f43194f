//! The blocking facade: `KafkaProducer.send`, its futures and bulk results.

pub(crate) mod bulk;
pub(crate) mod bulk_result;
pub(crate) mod future;
pub(crate) mod sender;
pub(crate) mod waits;
