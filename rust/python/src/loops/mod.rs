//! Event loops and greenlet hubs as native code sees them: an inbox each, the calls in it, and time slices.

pub(crate) mod calls;
pub(crate) mod fairness;
pub(crate) mod hub;
pub(crate) mod inbox;
