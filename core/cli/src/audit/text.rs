//! What a server said, made fit for a terminal: no control character, no credential, no end of it.

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::terminal::harmless;

/// The longest piece of a server's text that is shown, in letters.
const LONGEST: usize = 120;

/// Text of a server, escaped and shortened.
pub(crate) fn shown(text: &str) -> String {
    harmless(text, LONGEST)
}

/// Bytes of a server, the same way.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes))
}

/// Takes credentials out of every text before it is printed: a server may send one back.
#[derive(Default)]
pub(crate) struct Redactor {
    /// Every piece of the credentials.
    pieces: HashSet<[u8; TELLING]>,
    /// Those that are shorter than a piece.
    short: HashSet<Vec<u8>>,
}

/// How much of a credential is one: [`shown`] cuts texts, and so do servers.
const TELLING: usize = 8;
/// Shorter ones are no secret, and would cut words.
const SHORTEST: usize = 4;

impl Redactor {
    /// Each also as it may be written elsewhere: in URLs and in JSON, and what it is the encoded form of.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut redactor = Self::default();
        for form in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST).flat_map(|secret| forms(&secret)) {
            redactor.pieces.extend(form.windows(TELLING).filter_map(|piece| piece.first_chunk().copied()));
            if form.len() < TELLING {
                redactor.short.insert(form);
            }
        }
        redactor
    }

    pub(crate) fn clean(&self, text: &str) -> String {
        let mut secret = vec![false; text.len()];
        for len in SHORTEST..=TELLING {
            for (at, piece) in text.as_bytes().windows(len).enumerate() {
                let is_piece = piece.first_chunk().is_some_and(|piece| self.pieces.contains(piece));
                if is_piece || self.short.contains(piece) {
                    secret[at..at + len].fill(true);
                }
            }
        }
        let (mut out, mut was_secret) = (String::new(), false);
        for (at, letter) in text.char_indices() {
            // A letter of which a part is secret is none of the rest.
            let is_secret = secret[at..at + letter.len_utf8()].contains(&true);
            match (is_secret, was_secret) {
                (true, false) => out.push_str("[credential]"),
                (true, true) => {}
                (false, _) => out.push(letter),
            }
            was_secret = is_secret;
        }
        out
    }
}

/// A credential as a server may write it. A cookie's value is often encoded for URLs, and `Basic` is base64 of user and password.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let decoded = unpercent(secret);
    let mut forms: Vec<Vec<u8>> = BASE64.iter().filter_map(|base64| base64.decode(&decoded).ok()).collect();
    for secret in [secret, &decoded] {
        let percent = percent(secret);
        // `%2B` as `%2b`: of the encoded form, only what stands behind a percent sign.
        let lower = percent.split('%').enumerate().map(|(at, part)| match part.get(..2) {
            Some(digits) if at > 0 => format!("%{}{}", digits.to_ascii_lowercase(), &part[2..]),
            _ => part.to_owned(),
        });
        let quoted = serde_json::Value::from(secret).to_string();
        let quoted = quoted.trim_matches('"').to_owned();
        forms.extend([secret.to_owned(), lower.collect(), percent, quoted].map(String::into_bytes));
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// With and without its end, for texts and for URLs.
const BASE64: [GeneralPurpose; 2] = {
    let either = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [GeneralPurpose::new(&alphabet::STANDARD, either), GeneralPurpose::new(&alphabet::URL_SAFE, either)]
};

/// A text with what stands behind percent signs decoded, as far as it is some.
fn unpercent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.first_chunk::<2>().filter(|_| *byte == b'%');
        let digit = |at: usize| char::from(digits?[at]).to_digit(16);
        rest = match (digit(0), digit(1)) {
            (Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                &after[2..]
            }
            _ => {
                bytes.push(*byte);
                after
            }
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// As a value of a URL's query.
pub(crate) fn percent(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A number of bytes as people write it.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..1_048_576 => format!("{} KiB", count.div_ceil(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", count.div_ceil(1_048_576)),
        _ => format!("{} GiB", count.div_ceil(1_073_741_824)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_server_is_short() {
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), LONGEST + 1);
        assert_eq!(shown_bytes(b"\xff\x00ok\r\n"), "\u{fffd}\\u{0}ok\\u{d}\\u{a}");
    }

    #[test]
    fn credentials_are_taken_out() {
        let redactor = Redactor::new(["correct horse battery".to_owned(), "abc".to_owned()]);
        assert_eq!(redactor.clean("got correct horse battery, abc"), "got [credential], abc");
        let cut = Redactor::new(["0123456789abcdef".to_owned()]);
        assert_eq!(cut.clean("bad token 0123456789ab… end"), "bad token [credential]… end");
        assert_eq!(cut.clean("0123456789, 0123456789abcdef/"), "[credential], [credential]/");
    }

    #[test]
    fn credentials_are_taken_out_however_they_are_written() {
        let redactor = Redactor::new(["a+b/\"c\"=déjà".to_owned()]);
        for written in ["a+b/\"c\"=déjà", "a%2Bb%2F%22c%22%3Dd%C3%A9", "a%2bb%2f%22c%22%3dd%c3%a9j", r#"a+b/\"c\"=dé"#]
        {
            let clean = redactor.clean(&format!("<{written}> <{written}>"));
            assert_eq!(clean, "<[credential]> <[credential]>", "{written}");
        }
    }

    #[test]
    fn credentials_are_taken_out_however_they_are_decoded() {
        let cookie = Redactor::new(["s%3A0123456789.abc%2Fdef".to_owned()]);
        assert_eq!(cookie.clean("no session s:0123456789.abc/def here"), "no session [credential] here");
        // What a server cuts at the front, and what it cuts at the end.
        assert_eq!(cookie.clean("…456789.abc/d…"), "…[credential]…");
        let basic = Redactor::new(["YWxpY2U6Y29ycmVjdCBob3JzZQ==".to_owned()]);
        assert_eq!(basic.clean("wrong password of alice:correct horse"), "wrong password of [credential]");
        let short = Redactor::new(["pass".to_owned(), "é%C3".to_owned()]);
        assert_eq!(short.clean("a pass, a compass"), "a [credential], a com[credential]");
        assert_eq!(short.clean("100% of é"), "100% of é");
    }
}
