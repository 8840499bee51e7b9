//! The claims of a verified JSON Web Token, as they are handed to the application.

use core::fmt;

/// The longest claims that are kept, in bytes.
pub(super) const MAX_CLAIMS_BYTES: usize = 8192;

/// The payload of a token whose signature, time and parties were checked: a JSON object, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims(Box<str>);

impl Claims {
    /// Keeps a payload that was read as an object; `None`: it is too long.
    pub(super) fn keep(payload: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(payload).ok().filter(|text| text.len() <= MAX_CLAIMS_BYTES)?;
        Some(Self(text.into()))
    }

    /// The text.
    pub fn into_text(self) -> Box<str> {
        self.0
    }
}

/// Without the claims: they say who somebody is.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims")
    }
}
