//! The partition of a keyed record, bit for bit as the Java producer chooses it.
//!
//! Every client of a topic must agree on this, or records of one key end up in two partitions. Java's variant of
//! 32-bit `MurmurHash2` (public domain, Austin Appleby) has its own seed and reads words as little-endian.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Java's `Utils.murmur2`: the same signed result for the same bytes.
pub fn murmur2(data: &[u8]) -> i32 {
    let (words, tail) = data.as_chunks::<4>();
    let mut h = SEED ^ data.len() as u32;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, &byte) in tail.iter().enumerate() {
            h ^= u32::from(byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ h >> 15) as i32
}

/// The partition for a key among `partitions` (at least one), as Java's `BuiltInPartitioner.partitionForKey`.
///
/// The sign bit is cleared rather than the value negated: `abs` has no answer for the smallest integer.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) as u32 & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_java() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition() {
        assert!(murmur2(b"21") < 0);
        assert_eq!(partition_for_key(b"21", 7), 3);
        assert_eq!(partition_for_key(b"", 1), 0);
    }
}
