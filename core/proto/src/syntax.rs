//! Rules of RFC 9110 and RFC 3986 that several headers and options share.

/// Whether `text` is a token (RFC 9110 section 5.6.2), as the names of subprotocols, headers and cookies are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A decimal from 0 to 65535 in its one form: digits only, no leading zeros. For the ports of every header that has
/// some, so that none is read in two ways.
pub(crate) fn decimal_u16(digits: &[u8]) -> Option<u16> {
    match digits {
        [b'0'] => Some(0),
        [b'1'..=b'9', rest @ ..] if rest.len() <= 4 && rest.iter().all(u8::is_ascii_digit) => {
            str::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_form() {
        for (digits, number) in [("0", 0), ("1", 1), ("80", 80), ("65535", 65535)] {
            assert_eq!(decimal_u16(digits.as_bytes()), Some(number));
        }
        for digits in ["", "00", "01", "65536", "99999", "100000", "+1", "-1", " 1", "1 ", "1a", "\u{661}"] {
            assert_eq!(decimal_u16(digits.as_bytes()), None, "{digits:?}");
        }
    }
}
