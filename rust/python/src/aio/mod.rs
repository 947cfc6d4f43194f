//! The asyncio facade: `await send`, its futures, bulk calls and event loops.

pub(crate) mod bulk;
pub(crate) mod future;
pub(crate) mod loops;
pub(crate) mod sender;
pub(crate) mod wait;
