//! A record batch (magic 2): built by the blaster, checked by the sink.

use crate::wire::Malformed;

const HEADER: usize = 61;

/// A batch of records with this value and no key, of at most `limit` bytes, and how many they are. Without a producer id,
/// so that the same bytes can be sent again and again.
pub fn encode(value: &[u8], limit: usize, now_ms: i64) -> (Vec<u8>, i32) {
    let mut data = vec![0; HEADER];
    let mut count = 0;
    loop {
        let mut body = vec![0, 0]; // attributes, timestamp delta
        varint(&mut body, count);
        varint(&mut body, -1); // no key
        varint(&mut body, value.len() as i32);
        body.extend_from_slice(value);
        varint(&mut body, 0); // headers
        let mut record = Vec::with_capacity(body.len() + 5);
        varint(&mut record, body.len() as i32);
        record.extend(body);
        if count > 0 && data.len() + record.len() > limit {
            break;
        }
        data.extend(record);
        count += 1;
    }
    let length = (data.len() - 12) as i32;
    data[8..12].copy_from_slice(&length.to_be_bytes());
    data[12..16].copy_from_slice(&(-1i32).to_be_bytes()); // leader epoch
    data[16] = 2;
    data[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    data[27..35].copy_from_slice(&now_ms.to_be_bytes());
    data[35..43].copy_from_slice(&now_ms.to_be_bytes());
    data[43..57].fill(0xff); // producer id, epoch, sequence: none
    data[57..61].copy_from_slice(&count.to_be_bytes());
    let checksum = crc32c(&data[21..]);
    data[17..21].copy_from_slice(&checksum.to_be_bytes());
    (data, count)
}

/// The batch's number of records. Its frame is checked, its records are not read.
pub fn count(data: &[u8]) -> Result<i32, Malformed> {
    if data.len() < HEADER {
        return Err(Malformed("a batch is shorter than its header"));
    }
    let field = |at: usize| i32::from_be_bytes(data[at..at + 4].try_into().expect("four bytes"));
    if data[16] != 2 || field(8) as usize != data.len() - 12 {
        return Err(Malformed("a batch is not of magic 2, or has another length than it says"));
    }
    match field(57) {
        count if count > 0 && count - 1 == field(23) => Ok(count),
        _ => Err(Malformed("a batch has another number of records than its last offset says")),
    }
}

fn varint(into: &mut Vec<u8>, value: i32) {
    let mut zigzag = ((value << 1) ^ (value >> 31)) as u32;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

/// Bit by bit: it runs once, before anything is timed.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_batch_fills_its_limit_and_says_its_count() {
        let (data, records) = encode(&[b'x'; 100], 10_000, 0);
        assert!(data.len() <= 10_000 && data.len() > 9_800);
        assert_eq!(count(&data).unwrap(), records);
        assert!(count(&data[..data.len() - 1]).is_err());
        assert!(count(&data[..40]).is_err());
    }
}
