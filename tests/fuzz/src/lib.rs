//! What the fuzz targets share: input cut into pieces, client frames made, server frames read.

pub mod client;
pub mod server;

use arbitrary::Unstructured;

/// The lengths of the pieces in which `len` bytes arrive: one byte each, or as `seed` has it.
pub fn pieces(len: usize, mut seed: u64) -> Vec<usize> {
    if seed == 0 {
        return vec![1; len];
    }
    let mut pieces = Vec::new();
    let mut left = len;
    while left > 0 {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let most = if seed >> 62 == 0 { 3000 } else { 7 };
        let piece = ((seed >> 33) as usize % most + 1).min(left);
        pieces.push(piece);
        left -= piece;
    }
    pieces
}

/// The first byte of an input, and the rest: what most targets take their setting from.
pub fn setting(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(first, rest)| (*first, rest))
}

/// Frames as they stand in the input (a corpus of real streams), or made from it (deep into the protocol).
pub fn stream(made: bool, input: &[u8]) -> Vec<u8> {
    if made { client::stream(&mut Unstructured::new(input)) } else { input.to_vec() }
}
