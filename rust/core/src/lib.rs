//! Penstock's data plane.
