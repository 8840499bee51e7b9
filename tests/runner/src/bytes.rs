//! Byte strings as scenarios write them.

use serde::Deserialize;
use wsguard_test_support::deflate::{End, compress};
use wsguard_test_support::outcome::{Outcome, fail};

/// Text, hex, a repetition, noise, any of it compressed, or several of these in a row.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    Text(String),
    Many(Vec<Bytes>),
    Hex(Hex),
    Repeat(Repeat),
    Noise(Noise),
    Deflated(Deflated),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hex {
    hex: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repeat {
    repeat: Box<Bytes>,
    times: usize,
}

/// So many bytes that no compression makes shorter; the same ones each time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noise {
    noise: usize,
}

/// The bytes as the payload of a compressed message: a raw deflate stream, flushed, without the tail 00 00 ff ff.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deflated {
    deflate: Box<Bytes>,
    /// 0 (stored blocks) to 9.
    #[serde(default = "usual_level")]
    level: u32,
    #[serde(default)]
    end: DeflateEnd,
}

/// How the stream ends.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DeflateEnd {
    #[default]
    Flushed,
    WithTail,
    Final,
}

fn usual_level() -> u32 {
    6
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Bytes {
    pub(crate) fn to_vec(&self) -> Outcome<Vec<u8>> {
        Ok(match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Hex(Hex { hex }) => from_hex(hex)?,
            Self::Repeat(Repeat { repeat, times }) => repeat.to_vec()?.repeat(*times),
            Self::Noise(Noise { noise }) => noise_of(*noise),
            Self::Deflated(Deflated { deflate, level, end }) => {
                let end = match end {
                    DeflateEnd::Flushed => End::Flushed,
                    DeflateEnd::WithTail => End::WithTail,
                    DeflateEnd::Final => End::Final,
                };
                compress(&deflate.to_vec()?, *level, end)?
            }
            Self::Many(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    all.extend(part.to_vec()?);
                }
                all
            }
        })
    }
}

/// Hex digits in pairs; white space between them is ignored.
pub(crate) fn from_hex(text: &str) -> Outcome<Vec<u8>> {
    let digits: Vec<u32> = match text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect() {
        Some(digits) => digits,
        None => return fail!("not hex: {text:?}"),
    };
    if !digits.len().is_multiple_of(2) {
        return fail!("odd number of hex digits: {text:?}");
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// A xorshift generator's bytes.
fn noise_of(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<u8> {
        let mut table: toml::Table = toml::from_str(&format!("v = {text}")).unwrap();
        table.remove("v").unwrap().try_into::<Bytes>().unwrap().to_vec().unwrap()
    }

    #[test]
    fn every_spelling() {
        assert_eq!(parsed(r#""a\r\n""#), b"a\r\n");
        assert_eq!(parsed(r#"{ hex = "00 ff" }"#), [0, 255]);
        assert_eq!(parsed(r#"{ repeat = "ab", times = 2 }"#), b"abab");
        assert_eq!(
            parsed(r#"["a", { hex = "80" }, { repeat = { hex = "81" }, times = 2 }]"#),
            [b'a', 0x80, 0x81, 0x81]
        );
        assert_eq!(parsed(r#"{ deflate = "Hello" }"#), from_hex("f2 48 cd c9 c9 07 00").unwrap());
        assert_eq!(parsed(r#"{ deflate = "Hello", end = "final" }"#), from_hex("f3 48 cd c9 c9 07 00").unwrap());
        assert!(parsed(r#"{ deflate = "Hello", end = "with-tail" }"#).ends_with(&[0, 0, 255, 255]));
        assert!(parsed("{ deflate = { noise = 1000 }, level = 9 }").len() > 1000);
    }

    #[test]
    fn bad_hex_is_refused() {
        assert!(from_hex("0").is_err());
        assert!(from_hex("zz").is_err());
    }
}
