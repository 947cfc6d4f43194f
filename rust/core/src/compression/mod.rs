//! compression.type: the codecs, their levels, and how well a topic's records compress.
//!
//! Bytes in, bytes out; who compresses, and when, is the business of [`codecs`](crate::codecs).

mod decode;
mod encode;

use std::collections::HashMap;
use std::sync::Arc;

use crate::sync::Mutex;

pub use decode::{DecodeError, decompress};
pub use encode::Encoder;

/// How a batch's records are compressed. The numbers are those in a batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy's blocks in snappy-java's framing.
    Snappy = 2,
    /// LZ4's frame format.
    Lz4 = 3,
    /// Zstandard, RFC 8878; Produce version 7 and later.
    Zstd = 4,
}

impl Codec {
    /// The codec that compression.type calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.as_str() == name)
    }

    /// Its name in compression.type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Its bits in the attributes of a batch.
    pub const fn attributes(self) -> i16 {
        self as i16
    }
}

/// compression.type with the codec's own level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// compression.type
    pub codec: Codec,
    /// compression.gzip.level, compression.lz4.level or compression.zstd.level; without meaning for the others.
    pub level: i32,
}

/// How much smaller than its records a batch of a topic is likely to be (Java's `CompressionRatioEstimator`): the last
/// word of a batch that compressed worse counts at once, one that compressed better moves the estimate a little.
///
/// Kept per producer, where Java's is the JVM's: a producer has one codec, and two producers need not share one topic's mix.
#[derive(Debug, Default)]
pub struct Ratios(Mutex<HashMap<Arc<str>, f32>>);

impl Ratios {
    /// Where a topic begins.
    const FIRST: f32 = 1.0;
    /// A batch that compressed better lowers the estimate by no more.
    const BETTER: f32 = 0.005;
    /// A batch that compressed worse raises it by no less.
    const WORSE: f32 = 0.05;

    /// Compressed bytes per byte of records, as far as is known.
    pub fn estimate(&self, topic: &str) -> f32 {
        self.0.lock().get(topic).copied().unwrap_or(Self::FIRST)
    }

    /// A batch compressed to `observed` bytes per byte.
    pub fn observe(&self, topic: &Arc<str>, observed: f32) {
        let mut ratios = self.0.lock();
        let known = ratios.entry(Arc::clone(topic)).or_insert(Self::FIRST);
        if observed > *known {
            *known = observed.max(*known + Self::WORSE);
        } else {
            *known = observed.max(*known - Self::BETTER);
        }
    }

    /// A batch turned out too large for its broker: believe in no compression until there is proof again.
    pub fn reset(&self, topic: &Arc<str>, observed: f32) {
        self.0.lock().insert(Arc::clone(topic), observed.max(Self::FIRST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_go_by_kafkas_names_and_numbers() {
        let names = ["none", "gzip", "snappy", "lz4", "zstd"];
        for (number, name) in names.into_iter().enumerate() {
            let codec = Codec::from_name(name).unwrap();
            assert_eq!((codec.as_str(), codec.attributes()), (name, number as i16));
        }
        assert_eq!(Codec::from_name("brotli"), None);
    }

    #[test]
    fn an_estimate_rises_at_once_and_falls_slowly() {
        let (ratios, topic) = (Ratios::default(), Arc::from("t"));
        let close = |expected: f32| assert!((ratios.estimate("t") - expected).abs() < 1e-6, "{}", ratios.estimate("t"));
        close(1.0);
        ratios.observe(&topic, 0.2);
        close(0.995);
        ratios.observe(&topic, 0.993);
        close(0.993);
        ratios.observe(&topic, 0.994);
        close(1.043);
        ratios.observe(&topic, 1.2);
        close(1.2);
        ratios.reset(&topic, 0.3);
        close(1.0);
        ratios.reset(&topic, 1.1);
        close(1.1);
        assert!((ratios.estimate("another") - 1.0).abs() < 1e-6);
    }
}
