//! Masking (RFC 6455 section 5.3): XOR with a four-byte key.

/// Unmasks `payload` in place. `key` is the masking key rotated so that its first byte belongs to `payload[0]`.
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (index, byte) in tail.iter_mut().enumerate() {
        *byte ^= key[index % 4];
    }
}

/// The key for the payload byte `offset` bytes further on.
pub(super) fn rotate(key: [u8; 4], offset: usize) -> [u8; 4] {
    let mut rotated = key;
    rotated.rotate_left(offset % 4);
    rotated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition_at_every_length_and_split() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..70usize {
            let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let masked: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            for split in 0..=len {
                let mut bytes = masked.clone();
                let (head, tail) = bytes.split_at_mut(split);
                unmask(head, key);
                unmask(tail, rotate(key, split));
                assert_eq!(bytes, plain, "len {len} split {split}");
            }
        }
    }
}
