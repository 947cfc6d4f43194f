//! The codecs: Kafka's formats byte by byte, round trips, and malformed bytes.

mod common;

use common::check;
use penstock_core::compression::{Codec, Compression, DecodeError, Encoder, decompress};
use proptest::prelude::*;

/// Every codec at its smallest, default and largest level.
const ALL: [(Codec, i32); 14] = [
    (Codec::None, 0),
    (Codec::Gzip, 1),
    (Codec::Gzip, -1),
    (Codec::Gzip, 9),
    (Codec::Snappy, 0),
    (Codec::Lz4, 1),
    (Codec::Lz4, 2),
    (Codec::Lz4, 9),
    (Codec::Lz4, 10),
    (Codec::Lz4, 17),
    (Codec::Zstd, -131_072),
    (Codec::Zstd, 0),
    (Codec::Zstd, 3),
    (Codec::Zstd, 22),
];

fn encoder(codec: Codec, level: i32) -> Encoder {
    Encoder::new(Compression { codec, level }).unwrap()
}

fn encode(codec: Codec, level: i32, input: &[u8]) -> Vec<u8> {
    encoder(codec, level).encode(input).unwrap().to_vec()
}

/// Text that compresses, of more than one block of any codec.
fn text(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut text = Vec::with_capacity(size + 32);
    while text.len() < size {
        text.extend_from_slice(format!("{{\"id\": {}, \"name\": \"", random.u16(..)).as_bytes());
        text.extend(std::iter::repeat_with(|| random.lowercase() as u8).take(9));
        text.extend_from_slice(b"\"}");
    }
    text.truncate(size);
    text
}

fn noise(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(6);
    std::iter::repeat_with(|| random.u8(..)).take(size).collect()
}

// ---------------------------------------------------------------------------------------------------------- the formats

#[test]
fn gzip_is_one_member_without_name_or_time() {
    let bytes = encode(Codec::Gzip, -1, b"hello, hello, hello");
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(bytes[bytes.len() - 8..bytes.len() - 4], 0x09ca_a19fu32.to_le_bytes(), "CRC-32 of the text");
    assert_eq!(bytes[bytes.len() - 4..], 19u32.to_le_bytes());
}

#[test]
fn snappy_is_in_snappy_javas_frame_with_blocks_of_32_kilobytes() {
    let header = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let bytes = encode(Codec::Snappy, 0, b"ab");
    // Length of the block; of the text, a literal of two bytes.
    assert_eq!(bytes, [&header[..], &[0, 0, 0, 4, 2, 4, b'a', b'b']].concat());
    let input = text(70_000);
    let bytes = encode(Codec::Snappy, 0, &input);
    let mut rest = &bytes[16..];
    let mut sizes = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let (block, after) = after.split_at(u32::from_be_bytes(*size) as usize);
        sizes.push(snap::raw::decompress_len(block).unwrap());
        rest = after;
    }
    assert_eq!(sizes, [32_768, 32_768, 4_464]);
    assert_eq!(encode(Codec::Snappy, 0, b""), header);
}

#[test]
fn lz4_is_a_frame_of_independent_blocks_of_64_kilobytes_without_checksums() {
    let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    let stored = [&header[..], &[2, 0, 0, 0x80, b'a', b'b', 0, 0, 0, 0]].concat();
    assert_eq!(encode(Codec::Lz4, 9, b"ab"), stored, "a block that does not compress is stored");
    let bytes = encode(Codec::Lz4, 9, &[b'a'; 100]);
    // A literal of one byte, a match of 94 at distance 1, five literals.
    let block = [0x1f, b'a', 1, 0, 75, 0x50, b'a', b'a', b'a', b'a', b'a'];
    assert_eq!(bytes, [&header[..], &[11, 0, 0, 0], &block, &[0; 4]].concat());
    let bytes = encode(Codec::Lz4, 9, &text(150_000));
    let mut rest = &bytes[7..];
    let mut blocks = 0;
    while rest[..4] != [0; 4] {
        let size = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        rest = &rest[4 + size..];
        blocks += 1;
    }
    assert_eq!((blocks, rest.len()), (3, 4));
    assert_eq!(encode(Codec::Lz4, 9, b""), [&header[..], &[0; 4]].concat());
}

#[test]
fn the_lz4_levels_are_javas() {
    let input = text(60_000);
    let sizes: Vec<usize> = [9, 1, 4, 12, 17].map(|level| encode(Codec::Lz4, level, &input).len()).into();
    let [fast, one, four, twelve, seventeen] = sizes[..] else { unreachable!() };
    assert!(fast > one && one >= four && four > twelve, "9, the default, is the fast compressor: {sizes:?}");
    assert_eq!(twelve, seventeen, "the library has no more than 12");
}

#[test]
fn a_zstd_frame_states_its_content_size() {
    let bytes = encode(Codec::Zstd, 3, b"hello");
    // Magic; one segment, so that there is no window; five bytes; the last block, raw, of five bytes.
    assert_eq!(bytes, [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x29, 0, 0], &b"hello"[..]].concat());
}

#[test]
fn a_higher_level_is_smaller() {
    let input = text(60_000);
    let size = |codec, level| encode(codec, level, &input).len();
    assert!(size(Codec::Gzip, 9) < size(Codec::Gzip, 1));
    assert!(size(Codec::Zstd, 19) < size(Codec::Zstd, 3));
    assert!(size(Codec::Zstd, 3) < size(Codec::Zstd, -50));
}

// ---------------------------------------------------------------------------------------------------------- round trips

#[test]
fn one_encoder_compresses_many_inputs_without_loss() {
    for (codec, level) in ALL {
        let mut encoder = encoder(codec, level);
        for input in [&b""[..], b"a", &text(1_000), &noise(1_000), &text(300_000), &noise(200_000), &vec![0; 500_000]] {
            let bytes = encoder.encode(input).unwrap();
            assert_eq!(decompress(codec, bytes, input.len()).unwrap(), input, "{codec:?} {level}");
        }
    }
}

#[test]
fn any_bytes_decompress_within_their_size_and_not_within_less() {
    let inputs = (prop::collection::vec(0..8u8, 1..3_000), 0..ALL.len());
    check(&inputs, |(input, which)| {
        let (codec, level) = ALL[which];
        let bytes = encode(codec, level, &input);
        prop_assert_eq!(decompress(codec, &bytes, input.len()), Ok(input.clone()));
        prop_assert_eq!(decompress(codec, &bytes, input.len() - 1), Err(DecodeError::TooLarge));
        Ok(())
    });
}

#[test]
fn output_of_other_encoders_is_read() {
    // A bare snappy block, as librdkafka writes it.
    let bare = snap::raw::Encoder::new().compress_vec(b"hello, hello").unwrap();
    assert_eq!(decompress(Codec::Snappy, &bare, 100).unwrap(), b"hello, hello");
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let level = if codec == Codec::Lz4 { 9 } else { 3 };
        let twice = encode(codec, level, b"one ").into_iter().chain(encode(codec, level, b"two")).collect::<Vec<_>>();
        assert_eq!(decompress(codec, &twice, 7).unwrap(), b"one two", "{codec:?}: one stream behind the other");
    }
    // With a content size, a block's checksum and the content's, in blocks of up to 4 MB.
    let mut lz4 = vec![0x04, 0x22, 0x4d, 0x18, 0x7c, 0x70, 5, 0, 0, 0, 0, 0, 0, 0];
    lz4.push((xxhash_rust::xxh32::xxh32(&lz4[4..], 0) >> 8) as u8);
    let sum = xxhash_rust::xxh32::xxh32(b"hello", 0).to_le_bytes();
    for part in [&[5, 0, 0, 0x80], &b"hello"[..], &sum, &[0; 4], &sum] {
        lz4.extend_from_slice(part);
    }
    assert_eq!(decompress(Codec::Lz4, &lz4, 5).unwrap(), b"hello");
    for at in [18, 25, lz4.len() - 1] {
        let mut wrong = lz4.clone();
        wrong[at] ^= 1;
        assert!(matches!(decompress(Codec::Lz4, &wrong, 1_000_000), Err(DecodeError::Malformed(_))), "byte {at}");
    }
}

// ---------------------------------------------------------------------------------------------------------- hostile bytes

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    for (codec, level) in ALL.into_iter().filter(|(codec, _)| *codec != Codec::None) {
        let bomb = encode(codec, level, &vec![0; 20 << 20]);
        assert_eq!(decompress(codec, &bomb, 1 << 20), Err(DecodeError::TooLarge), "{codec:?}");
    }
}

#[test]
fn a_false_length_is_an_error() {
    // Snappy: four gigabytes, and two in three bytes of data.
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x07, 0]] {
        assert!(decompress(Codec::Snappy, length, usize::MAX).is_err());
    }
    let header = encode(Codec::Snappy, 0, b"");
    for size in [-1i32, i32::MAX, 1] {
        let bytes = [&header[..], &size.to_be_bytes()].concat();
        assert!(matches!(decompress(Codec::Snappy, &bytes, 1 << 20), Err(DecodeError::Malformed(_))));
    }
    // LZ4: a block of two gigabytes.
    let bytes = [&encode(Codec::Lz4, 9, b"")[..7], &[0xff, 0xff, 0xff, 0x7f, 0]].concat();
    assert!(matches!(decompress(Codec::Lz4, &bytes, 1 << 20), Err(DecodeError::Malformed(_))));
}

#[test]
fn truncated_or_changed_input_is_an_error_or_other_bytes_within_the_limit() {
    for (codec, level) in ALL.into_iter().filter(|(codec, _)| *codec != Codec::None) {
        let input = text(3_000);
        let bytes = encode(codec, level, &input);
        for end in (0..bytes.len()).step_by(7) {
            match decompress(codec, &bytes[..end], 10_000) {
                // A stream of snappy's may end behind any block, and nothing at all is an empty frame or none.
                Ok(read) => assert!(input.starts_with(&read) && read.len() < input.len(), "{codec:?} {end}"),
                Err(error) => assert!(matches!(error, DecodeError::Malformed(_)), "{codec:?} {end}"),
            }
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << (at % 8);
            if let Ok(read) = decompress(codec, &wrong, 10_000) {
                assert!(read.len() <= 10_000);
            }
        }
    }
    check(&(prop::collection::vec(any::<u8>(), 0..200), 0..ALL.len()), |(bytes, which)| {
        let magic: &[u8] = match ALL[which].0 {
            Codec::Gzip => &[0x1f, 0x8b, 8],
            Codec::Snappy => &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1],
            Codec::Lz4 => &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82],
            Codec::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Codec::None => &[],
        };
        for bytes in [bytes.clone(), [magic, &bytes].concat()] {
            if let Ok(read) = decompress(ALL[which].0, &bytes, 5_000) {
                prop_assert!(read.len() <= 5_000);
            }
        }
        Ok(())
    });
}
