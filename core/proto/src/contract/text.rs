//! What reading JSON text comes down to: finding where things end, without a branch for each byte where it counts.

/// The end of the digits that begin at `at`.
pub(super) fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    at
}

/// A byte; NUL, which no rule of the grammar accepts, beyond the end.
pub(super) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// A word that equal strings share: both ends and the length. Not a hash: who wants collisions makes them.
pub(super) fn tag(bytes: &[u8]) -> u64 {
    let (head, tail) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(head), Some(tail)) => (u32::from_le_bytes(*head).into(), u32::from_le_bytes(*tail).into()),
            _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        },
    };
    (head ^ tail.rotate_left(29)).wrapping_add((bytes.len() as u64) << 56)
}

/// The first byte at or after `at` that is not a plain character of a string: a quote, a backslash, a control
/// character; or the end. Eight bytes at a time.
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // A borrow may mark bytes above a true hit, never below: the lowest mark is exact.
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = quote.wrapping_sub(ONES) & !quote;
        let backslash = backslash.wrapping_sub(ONES) & !backslash;
        let hits = (control | quote | backslash) & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        at += 1;
    }
    at
}

/// The value of four hexadecimal digits.
pub(super) fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Appends the characters that a vetted string stands for.
pub(super) fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let bytes = escape.as_bytes();
        let (code, length) = match byte(bytes, 0) {
            b'b' => (0x8, 1),
            b'f' => (0xC, 1),
            b'n' => (0xA, 1),
            b'r' => (0xD, 1),
            b't' => (0x9, 1),
            b'u' => match (hex4(bytes, 1), hex4(bytes, 7)) {
                (Some(high @ 0xD800..=0xDBFF), Some(low)) => (0x10000 + ((high & 0x3FF) << 10 | low & 0x3FF), 11),
                (code, _) => (code.unwrap_or_default(), 5),
            },
            itself => (u32::from(itself), 1),
        };
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_string_is_found_at_any_offset() {
        let slowly = |bytes: &[u8], at: usize| {
            (at..bytes.len()).find(|index| matches!(bytes[*index], b'"' | b'\\' | 0..0x20)).unwrap_or(bytes.len())
        };
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut bytes = *b"!\x7f\x80#[]\xff \x20\x21\x23\x5b\x5d\xa2\xdczzzz";
                let length = bytes.len();
                bytes[place.min(length - 1)] = byte;
                for at in 0..=length {
                    assert_eq!(plain_end(&bytes, at), slowly(&bytes, at), "{bytes:?} from {at}");
                }
            }
        }
    }

    #[test]
    fn equal_strings_have_equal_tags_and_most_others_do_not() {
        let words =
            ["", "\0", "a", "b", "ab", "ba", "abc", "abcd", "abcde", "abcdefg", "abcdefgh", "abcdefghi", "0123456789"];
        for one in words {
            for two in words {
                assert_eq!(tag(one.as_bytes()) == tag(two.as_bytes()), one == two, "{one} {two}");
            }
        }
    }

    #[test]
    fn unescaping_keeps_what_is_plain() {
        for (raw, plain) in [
            ("", ""),
            ("žába", "žába"),
            (r"\\n", r"\n"),
            (r#"é\u00e9\"\/\\é"#, r#"éé"/\é"#),
            (r"\b\f\n\r\t", "\u{8}\u{c}\n\r\t"),
            (r"\ud83d\ude00\uD834\uDD1E!", "\u{1f600}\u{1d11e}!"),
        ] {
            let mut out = String::from(">");
            unescape(raw, &mut out);
            assert_eq!(out, format!(">{plain}"));
        }
    }
}
