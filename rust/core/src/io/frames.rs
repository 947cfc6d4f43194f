//! Frames are cut from the stream of bytes that a connection receives.

use std::io;

/// Longer answers are refused (Java: `NetworkReceive` takes any; a broker's requests are bounded to this).
pub const MAX_FRAME: usize = 100 * 1024 * 1024;

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The socket has no more at present.
    Empty,
    /// It may have more: cut frames, then read on.
    More,
    /// The peer closed.
    Closed,
}

/// The text for a peer that announces an impossible length. Mostly it is no broker: the port is wrong.
fn impossible_length(head: [u8; 4]) -> String {
    let announced = i32::from_be_bytes(head);
    let guess = match head {
        [0x14..=0x17, 3, ..] => "; it looks like TLS, which Penstock does not speak yet: use a PLAINTEXT listener",
        [b'H', b'T', b'T', b'P'] => "; it looks like an HTTP server, not like a Kafka broker",
        _ => "",
    };
    format!("it announced an answer of {announced} bytes, which no broker sends{guess}")
}

/// Bytes that were received and not cut yet.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Read what `socket` holds, a megabyte at most, so that frames are cut (and impossible lengths found) between.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        mut socket: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<ReadEnd> {
        let start = self.bytes.len();
        loop {
            match socket(scratch) {
                Ok(0) => return Ok(ReadEnd::Closed),
                Ok(count) => {
                    self.bytes.extend_from_slice(&scratch[..count]);
                    // A short read of a stream socket means that it is empty for now; a later byte raises a new event.
                    // One more call would only return `WouldBlock`.
                    if count < scratch.len() {
                        return Ok(ReadEnd::Empty);
                    }
                    if self.bytes.len() - start > 1 << 20 {
                        return Ok(ReadEnd::More);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadEnd::Empty),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole frame, without its length. The buffer grows with what arrives, never with what is announced.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*head);
        let len = usize::try_from(announced)
            .ok()
            .filter(|&len| (4..=MAX_FRAME).contains(&len))
            .ok_or_else(|| impossible_length(*head))?;
        if self.bytes.len() < 4 + len {
            return Ok(None);
        }
        let rest = self.bytes.split_off(4 + len);
        let mut frame = std::mem::replace(&mut self.bytes, rest);
        frame.drain(..4);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_from_the_stream_and_impossible_lengths_are_refused() {
        let mut frames = Frames::default();
        let mut scratch = [0; 4];
        let mut receive = |frames: &mut Frames, mut bytes: &[u8]| {
            let read = frames.read(&mut scratch, |into| {
                if bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { io::Read::read(&mut bytes, into) }
            });
            assert_eq!(read.unwrap(), ReadEnd::Empty);
        };
        receive(&mut frames, &[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 4, 9, 9]);
        assert_eq!(frames.next_frame(), Ok(Some(vec![1, 2, 3, 4, 5])));
        assert_eq!(frames.next_frame(), Ok(None));
        receive(&mut frames, &[9, 9, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(frames.next_frame(), Ok(Some(vec![9, 9, 9, 9])));
        assert!(frames.next_frame().is_err());
        assert!(impossible_length([0x15, 3, 3, 0]).contains("TLS"));
        assert!(impossible_length(*b"HTTP").contains("HTTP server"));
    }
}
