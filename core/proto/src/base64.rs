//! Base64 without padding, strictly: one spelling for each value (RFC 4648 section 3.5).

/// The bytes that `text` spells; `last_two` are the digits for 62 and 63. `None`: another character, or bits left over.
pub(crate) fn decode(text: &str, last_two: [u8; 2]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut pending, mut bits) = (0_u32, 0);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            plus if plus == last_two[0] => 62,
            slash if slash == last_two[1] => 63,
            _ => return None,
        };
        pending = pending << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
            pending &= (1 << bits) - 1;
        }
    }
    (bits < 6 && pending == 0).then_some(bytes)
}

/// Base64url (RFC 4648 section 5), as RFC 7515 section 2 asks.
pub(crate) fn decode_url(text: &str) -> Option<Vec<u8>> {
    decode(text, *b"-_")
}
