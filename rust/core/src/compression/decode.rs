//! Decompression of untrusted bytes, with a limit to the output.
//!
//! Every length is compared with what remains, or with what may still be written, before memory is allocated.

use std::io::Read;

use xxhash_rust::xxh32::xxh32;

use super::codec::Codec;
use super::encode::{LZ4_STORED, SNAPPY_HEADER};

/// Why bytes cannot be decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They are not what the codec writes.
    Malformed(String),
    /// They would grow beyond the limit.
    TooLarge,
}

impl From<std::io::Error> for DecodeError {
    fn from(error: std::io::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<snap::Error> for DecodeError {
    fn from(error: snap::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn malformed<T>(why: &str) -> Result<T, DecodeError> {
    Err(DecodeError::Malformed(why.to_owned()))
}

/// `data`, decompressed; an error if that is more than `limit` bytes.
pub fn decompress(codec: Codec, data: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    match codec {
        Codec::None if data.len() > limit => Err(DecodeError::TooLarge),
        Codec::None => Ok(data.to_vec()),
        // Java reads several members in a row as one stream.
        Codec::Gzip => read(flate2::bufread::MultiGzDecoder::new(data), limit),
        Codec::Snappy => snappy(data, limit),
        Codec::Lz4 => lz4(data, limit),
        Codec::Zstd => read(zstd::stream::read::Decoder::with_buffer(data)?, limit),
    }
}

fn read(from: impl Read, limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    from.take((limit as u64).saturating_add(1)).read_to_end(&mut out)?;
    if out.len() > limit { Err(DecodeError::TooLarge) } else { Ok(out) }
}

/// A copy of 64 bytes takes three: nothing grows more.
const SNAPPY_GROWTH: usize = 22;

/// snappy-java's stream, or one bare block, as librdkafka writes it and Java reads it.
fn snappy(data: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = snap::raw::Decoder::new();
    let mut out = Vec::new();
    if !data.starts_with(&SNAPPY_HEADER[..8]) {
        snappy_block(&mut decoder, data, &mut out, limit)?;
        return Ok(out);
    }
    let mut rest = data;
    while !rest.is_empty() {
        if rest.starts_with(&SNAPPY_HEADER[..8]) {
            // The first one, or that of a stream behind the first.
            let Some(after) = rest.get(SNAPPY_HEADER.len()..) else {
                return malformed("snappy: the header breaks off");
            };
            rest = after;
            continue;
        }
        let Some((size, after)) = rest.split_first_chunk::<4>() else {
            return malformed("snappy: a length breaks off");
        };
        let size = usize::try_from(i32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        let Some((block, after)) = after.split_at_checked(size) else { return malformed("snappy: a block breaks off") };
        snappy_block(&mut decoder, block, &mut out, limit)?;
        rest = after;
    }
    Ok(out)
}

fn snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), DecodeError> {
    let size = snap::raw::decompress_len(block)?;
    if size > block.len().saturating_mul(SNAPPY_GROWTH) {
        return malformed("snappy: a block announces more than it can hold");
    }
    let at = out.len();
    if size > limit - at {
        return Err(DecodeError::TooLarge);
    }
    out.resize(at + size, 0);
    decoder.decompress(block, &mut out[at..])?;
    Ok(())
}

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
// Bits of the frame's first flag byte.
const LZ4_DICTIONARY: u8 = 1;
const LZ4_RESERVED: u8 = 1 << 1;
const LZ4_CONTENT_CHECKSUM: u8 = 1 << 2;
const LZ4_CONTENT_SIZE: u8 = 1 << 3;
const LZ4_BLOCK_CHECKSUM: u8 = 1 << 4;
const LZ4_INDEPENDENT: u8 = 1 << 5;

/// LZ4 frames, one behind the other. Blocks that depend on one another are refused, as by Java.
fn lz4(data: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        rest = lz4_frame(rest, &mut out, limit)?;
    }
    Ok(out)
}

fn lz4_frame<'a>(data: &'a [u8], out: &mut Vec<u8>, limit: usize) -> Result<&'a [u8], DecodeError> {
    let begin = out.len();
    if !data.starts_with(&LZ4_MAGIC) {
        return malformed("lz4: it does not begin as a frame");
    }
    let [Some(&flags), Some(&sizes)] = [data.get(4), data.get(5)] else {
        return malformed("lz4: the header breaks off");
    };
    if flags >> 6 != 1 || flags & (LZ4_DICTIONARY | LZ4_RESERVED) != 0 || flags & LZ4_INDEPENDENT == 0 {
        return malformed("lz4: a version, a dictionary or dependent blocks, which Kafka does not use");
    }
    let most: usize = match sizes {
        0x40 => 64 << 10,
        0x50 => 256 << 10,
        0x60 => 1 << 20,
        0x70 => 4 << 20,
        _ => return malformed("lz4: there is no such size of blocks"),
    };
    let end = if flags & LZ4_CONTENT_SIZE == 0 { 6 } else { 14 };
    let (Some(descriptor), Some(&checksum)) = (data.get(4..end), data.get(end)) else {
        return malformed("lz4: the header breaks off");
    };
    if (xxh32(descriptor, 0) >> 8) as u8 != checksum {
        return malformed("lz4: the header's checksum is wrong");
    }
    let mut rest = &data[end + 1..];
    loop {
        let size = lz4_number(&mut rest)?;
        if size == 0 {
            break;
        }
        let (stored, size) = (size & LZ4_STORED != 0, (size & !LZ4_STORED) as usize);
        if size > most {
            return malformed("lz4: a block is larger than the header allows");
        }
        let Some((block, after)) = rest.split_at_checked(size) else { return malformed("lz4: a block breaks off") };
        rest = after;
        if flags & LZ4_BLOCK_CHECKSUM != 0 && lz4_number(&mut rest)? != xxh32(block, 0) {
            return malformed("lz4: a block's checksum is wrong");
        }
        lz4_block(block, stored, most, out, limit)?;
    }
    if flags & LZ4_CONTENT_CHECKSUM != 0 && lz4_number(&mut rest)? != xxh32(&out[begin..], 0) {
        return malformed("lz4: the content's checksum is wrong");
    }
    Ok(rest)
}

fn lz4_block(block: &[u8], stored: bool, most: usize, out: &mut Vec<u8>, limit: usize) -> Result<(), DecodeError> {
    let at = out.len();
    if stored {
        out.extend_from_slice(block);
    } else {
        // A byte of a match's length stands for 255: nothing grows more.
        let room = most.min(block.len().saturating_mul(255)).min(limit - at + 1);
        out.resize(at + room, 0);
        match lz4::block::decompress_to_buffer(block, Some(room as i32), &mut out[at..]) {
            Ok(size) => out.truncate(at + size),
            // A block that is too large and one that is malformed give the same error; the first stops at the limit.
            Err(_) if room == limit - at + 1 => return Err(DecodeError::TooLarge),
            Err(error) => return malformed(&format!("lz4: {error}")),
        }
    }
    if out.len() > limit { Err(DecodeError::TooLarge) } else { Ok(()) }
}

fn lz4_number(rest: &mut &[u8]) -> Result<u32, DecodeError> {
    let Some((number, after)) = rest.split_first_chunk::<4>() else { return malformed("lz4: the frame breaks off") };
    *rest = after;
    Ok(u32::from_le_bytes(*number))
}
