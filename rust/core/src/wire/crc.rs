//! CRC-32C, and the checksum of two adjacent byte strings from the checksums of each.
//!
//! A batch's checksum covers header fields that change per attempt (producer id, epoch, sequence) followed by records
//! that never change. Combining lets an attempt renumber a batch without reading its records again. The `crc32c` crate
//! has a combine too, but it squares 32×32 bit matrices on each call: 13 µs, sixteen times a fresh checksum of a
//! 16 KiB batch. Multiplying by powers of x from a table takes a hundredth of that (`examples/append_cost.rs`).

/// CRC-32C's polynomial, reflected: bit 31 is x⁰.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `POWERS[k][d]` is x to the power 8·d·16ᵏ modulo the polynomial: d·16ᵏ more bytes multiply a checksum by it.
static POWERS: [[u32; 16]; 16] = powers();

/// CRC-32C of `data`.
pub fn crc32c(data: &[u8]) -> u32 {
    ::crc32c::crc32c(data)
}

/// CRC-32C of everything behind `crc` followed by `data`.
pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, data)
}

/// CRC-32C of two adjacent byte strings, from the CRC of each and the length of the second.
pub fn crc32c_combine(crc1: u32, crc2: u32, len2: usize) -> u32 {
    let mut crc = crc1;
    let mut rest = len2;
    for row in &POWERS {
        if rest == 0 {
            break;
        }
        let digit = rest & 15;
        if digit != 0 {
            crc = multiply(crc, row[digit]);
        }
        rest >>= 4;
    }
    crc ^ crc2
}

/// The product of two polynomials over GF(2) modulo [`POLYNOMIAL`], in reflected order. Without branches: checksums
/// are noise, and no predictor guesses them.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & ((a >> bit) & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

const fn powers() -> [[u32; 16]; 16] {
    let mut table = [[0; 16]; 16];
    let mut step = 1 << (31 - 8);
    let mut k = 0;
    while k < 16 {
        table[k][0] = 1 << 31;
        let mut d = 1;
        while d < 16 {
            table[k][d] = multiply(table[k][d - 1], step);
            d += 1;
        }
        step = multiply(table[k][15], step);
        k += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn combined_equals_computed_for_every_split_and_many_lengths() {
        let data: Vec<u8> = (0..70_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [1, 2, 15, 16, 17, 255, 256, 4_097, 16_384, 65_537, 70_000] {
            let data = &data[..len];
            for at in [0, 1, len / 3, len / 2, len - 1, len] {
                let (head, tail) = data.split_at(at);
                assert_eq!(
                    crc32c_combine(crc32c(head), crc32c(tail), tail.len()),
                    crc32c(data),
                    "{len} bytes split at {at}"
                );
            }
        }
    }

    #[test]
    fn agrees_with_the_crate_for_lengths_that_no_test_can_allocate() {
        for shift in 0..48 {
            let len = (0x9e37_79b9_7f4a_7c15u64 >> 16 >> shift) as usize;
            assert_eq!(
                crc32c_combine(0x1234_5678, 0x9abc_def0, len),
                ::crc32c::crc32c_combine(0x1234_5678, 0x9abc_def0, len)
            );
        }
    }
}
