//! A producer in its process: the engine, the boundary, callbacks, forks, blocking waits, interpreter shutdown.

pub(crate) mod boundary;
pub(crate) mod callbacks;
pub(crate) mod clock;
pub(crate) mod compression;
pub(crate) mod engine;
pub(crate) mod engine_core;
pub(crate) mod errors;
pub(crate) mod fork;
pub(crate) mod settings;
pub(crate) mod shutdown;
pub(crate) mod stats;
pub(crate) mod stepped;
pub(crate) mod timeout;
pub(crate) mod upcalls;
pub(crate) mod waits;
