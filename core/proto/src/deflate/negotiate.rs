//! The offers of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1, RFC 7692 sections 5 and 7.1).
//!
//! An offer that cannot be honoured is passed over, whatever is wrong with it: the handshake goes on, with the next one or without
//! compression. Every byte is looked at a fixed number of times.

use super::Agreed;

/// Offers that are looked at, of whatever extensions.
const MAX_OFFERS: usize = 64;
/// A window of 256 bytes, which zlib does not make.
const TOO_SMALL: u8 = 8;

/// An offer that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedOffer {
    /// What both sides are bound to.
    pub agreed: Agreed,
    /// The client has asked for a window, and is told that it has it.
    names_window: bool,
}

impl AcceptedOffer {
    /// The value of the header that accepts it.
    pub fn answer(self) -> String {
        let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        if !self.names_window {
            return answer.to_owned();
        }
        format!("{answer}; server_max_window_bits={}", self.agreed.server_window_bits)
    }
}

// THREATS D1.
/// The first offer that can be honoured, in the order of the headers' `values`.
pub fn negotiate<'h>(values: impl Iterator<Item = &'h [u8]>) -> Option<AcceptedOffer> {
    values.flat_map(|value| parts(value, b',')).filter(|offer| !offer.is_empty()).take(MAX_OFFERS).find_map(accept)
}

/// What stands between separators, outside of quoted strings; without the spaces around it.
fn parts(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let ends_part = move |byte: &u8| {
        match *byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte => return byte == separator && !is_quoted,
        }
        false
    };
    text.split(ends_part).map(<[u8]>::trim_ascii)
}

/// Accepts an offer that is well-formed, known, and for a window that we can keep.
fn accept(offer: &[u8]) -> Option<AcceptedOffer> {
    let mut parts = parts(offer, b';');
    if parts.next() != Some(b"permessage-deflate") {
        return None;
    }
    let (mut server_takeover, mut client_takeover, mut server_window, mut client_window) = (None, None, None, None);
    for parameter in parts {
        let (name, value) = match parameter.iter().position(|byte| *byte == b'=') {
            Some(at) => (&parameter[..at], Some(&parameter[at + 1..])),
            None => (parameter, None),
        };
        let is_repeated = match name {
            b"server_no_context_takeover" => value.is_some() || server_takeover.replace(()).is_some(),
            b"client_no_context_takeover" => value.is_some() || client_takeover.replace(()).is_some(),
            b"server_max_window_bits" => server_window.replace(window_bits(value?)?).is_some(),
            // Our inflater has the largest window: whatever the client keeps to, fits.
            b"client_max_window_bits" => {
                let hint = value.map_or(Some(TOO_SMALL), window_bits)?;
                client_window.replace(hint).is_some()
            }
            _ => return None,
        };
        if is_repeated {
            return None;
        }
    }
    let agreed = Agreed { server_window_bits: server_window.unwrap_or(15) };
    (agreed.server_window_bits != TOO_SMALL).then_some(AcceptedOffer { agreed, names_window: server_window.is_some() })
}

/// 8 to 15, without a leading zero; as a token, or as a quoted string that is one.
fn window_bits(value: &[u8]) -> Option<u8> {
    let (value, is_quoted) = match value.strip_prefix(b"\"") {
        Some(rest) => (rest.strip_suffix(b"\"")?, true),
        None => (value, false),
    };
    let mut bytes = value.iter();
    let (mut digits, mut len) = ([0; 2], 0);
    while let Some(byte) = bytes.next() {
        let byte = if is_quoted && *byte == b'\\' { bytes.next()? } else { byte };
        *digits.get_mut(len)? = *byte;
        len += 1;
    }
    match &digits[..len] {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
