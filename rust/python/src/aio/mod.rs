//! The asyncio facade: `await send`, its futures and bulk calls.
//!
//! A `Pending…` object never waits itself. Its `attempt` returns a `Step`, and `penstock.aio` waits, yields or awaits.

pub(crate) mod awaitable;
pub(crate) mod bulk;
pub(crate) mod bulk_result;
pub(crate) mod end;
pub(crate) mod flush;
pub(crate) mod future;
pub(crate) mod in_loop;
pub(crate) mod pending;
pub(crate) mod returned;
pub(crate) mod running;
pub(crate) mod sender;
pub(crate) mod step;
pub(crate) mod topic;
pub(crate) mod waits;
