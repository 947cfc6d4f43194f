//! Compression: bytes in, bytes out. The threads that compress are in [`codecs`](crate::codecs).

mod codec;
mod decode;
mod encode;
mod ratios;

pub use codec::{Codec, Compression};
pub use decode::{DecodeError, decompress};
pub use encode::Encoder;
pub use ratios::Ratios;
