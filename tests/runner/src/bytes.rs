//! Byte strings as scenarios write them.

use serde::Deserialize;
use wsguard_test_support::outcome::{Outcome, fail};

/// Text, hex, a repetition, or several of these in a row.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    Text(String),
    Many(Vec<Bytes>),
    Hex(Hex),
    Repeat(Repeat),
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
    }

    #[test]
    fn bad_hex_is_refused() {
        assert!(from_hex("0").is_err());
        assert!(from_hex("zz").is_err());
    }
}
