//! Compression as in Java's producer: the same frames, the same block sizes, the same meaning of levels.

use std::io;

use flate2::{Compress, Crc, FlushCompress, Status};
use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};

use super::codec::{Codec, Compression};

/// RFC 1952, as Java's `GZIPOutputStream` writes it: deflate, no flags, no time, no hint, system unknown.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// snappy-java's stream: magic, version 1, readable from version 1 on.
pub(super) const SNAPPY_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const SNAPPY_BLOCK: usize = 32 * 1024;

/// LZ4's frame: version 1, independent blocks of at most 64 KB, no checksums and no content size; then the descriptor's
/// own checksum (which brokers before format 2 got wrong).
const LZ4_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_BLOCK: usize = 64 * 1024;
/// In a block's length: it is stored uncompressed.
pub(super) const LZ4_STORED: u32 = 1 << 31;
const LZ4_END: [u8; 4] = [0; 4];
/// At its default, compression.lz4.level means LZ4's fast compressor; at any other the thorough one (HC), as in Java.
const LZ4_DEFAULT_LEVEL: i32 = 9;

/// The memory that a thread reuses for each batch: the codec's own, which takes longer to make than a batch takes to
/// compress, and the output.
pub struct Encoder {
    codec: Codec,
    state: EncoderState,
    out: Vec<u8>,
}

enum EncoderState {
    None,
    Gzip(Box<Compress>),
    Snappy(Box<snap::raw::Encoder>),
    Lz4(CompressionMode),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder; an error means that there is no memory, or no such level.
    pub fn new(compression: Compression) -> io::Result<Self> {
        let Compression { codec, level } = compression;
        let state = match codec {
            Codec::None => EncoderState::None,
            Codec::Gzip => {
                let level =
                    u32::try_from(level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
                EncoderState::Gzip(Box::new(Compress::new(level, false)))
            }
            Codec::Snappy => EncoderState::Snappy(Box::new(snap::raw::Encoder::new())),
            Codec::Lz4 if level == LZ4_DEFAULT_LEVEL => EncoderState::Lz4(CompressionMode::DEFAULT),
            Codec::Lz4 => EncoderState::Lz4(CompressionMode::HIGHCOMPRESSION(level)),
            Codec::Zstd => EncoderState::Zstd(Box::new(zstd::bulk::Compressor::new(level)?)),
        };
        Ok(Self { codec, state, out: Vec::new() })
    }

    /// Its codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// `input`, compressed. The output may be larger; it is sent, as in Java.
    pub fn encode(&mut self, input: &[u8]) -> io::Result<&[u8]> {
        let out = &mut self.out;
        out.clear();
        match &mut self.state {
            EncoderState::None => out.extend_from_slice(input),
            EncoderState::Gzip(deflate) => gzip(deflate, input, out)?,
            EncoderState::Snappy(encoder) => snappy(encoder, input, out)?,
            EncoderState::Lz4(mode) => lz4(*mode, input, out)?,
            EncoderState::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(input.len()));
                compressor.compress_to_buffer(input, out)?;
            }
        }
        Ok(out)
    }
}

fn gzip(deflate: &mut Compress, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&GZIP_HEADER);
    out.reserve(input.len() + input.len() / 8 + 64);
    deflate.reset();
    loop {
        let rest = &input[usize::try_from(deflate.total_in()).map_err(io::Error::other)?..];
        match deflate.compress_vec(rest, out, FlushCompress::Finish)? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => out.reserve(input.len() / 8 + 64),
        }
    }
    let mut crc = Crc::new();
    crc.update(input);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(input.len() as u32).to_le_bytes());
    Ok(())
}

fn snappy(encoder: &mut snap::raw::Encoder, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&SNAPPY_HEADER);
    for block in input.chunks(SNAPPY_BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let size = encoder.compress(block, &mut out[at + 4..])?;
        out[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
        out.truncate(at + 4 + size);
    }
    Ok(())
}

fn lz4(mode: CompressionMode, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&LZ4_HEADER);
    for block in input.chunks(LZ4_BLOCK) {
        let at = out.len();
        out.resize(at + 4 + compress_bound(block.len())?, 0);
        let mut size = compress_to_buffer(block, Some(mode), false, &mut out[at + 4..])?;
        let mut flag = 0;
        if size >= block.len() {
            (size, flag) = (block.len(), LZ4_STORED);
            out[at + 4..at + 4 + size].copy_from_slice(block);
        }
        out[at..at + 4].copy_from_slice(&(size as u32 | flag).to_le_bytes());
        out.truncate(at + 4 + size);
    }
    out.extend_from_slice(&LZ4_END);
    Ok(())
}
