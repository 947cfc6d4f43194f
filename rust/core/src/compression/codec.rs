//! compression.type: the codecs and their levels.

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
}
