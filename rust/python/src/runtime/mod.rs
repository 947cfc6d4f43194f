//! A producer in its process: the engine, the boundary, callbacks, fork, interpreter exit.

pub(crate) mod boundary;
pub(crate) mod callbacks;
pub(crate) mod compression;
pub(crate) mod engine;
pub(crate) mod hub;
pub(crate) mod python;
pub(crate) mod shutdown;
pub(crate) mod stats;
pub(crate) mod stepped;
pub(crate) mod upcalls;
