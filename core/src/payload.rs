//! The payload of a message of the protocol `raw`.

/// A text or a binary message of the protocol `raw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'p> {
    /// A text message.
    Text(&'p str),
    /// A binary message.
    Binary(&'p [u8]),
}

impl<'p> From<&'p str> for Payload<'p> {
    fn from(text: &'p str) -> Self {
        Payload::Text(text)
    }
}

impl<'p> From<&'p String> for Payload<'p> {
    fn from(text: &'p String) -> Self {
        Payload::Text(text)
    }
}

impl<'p> From<&'p [u8]> for Payload<'p> {
    fn from(bytes: &'p [u8]) -> Self {
        Payload::Binary(bytes)
    }
}

impl<'p, const N: usize> From<&'p [u8; N]> for Payload<'p> {
    fn from(bytes: &'p [u8; N]) -> Self {
        Payload::Binary(bytes)
    }
}

impl<'p> From<&'p Vec<u8>> for Payload<'p> {
    fn from(bytes: &'p Vec<u8>) -> Self {
        Payload::Binary(bytes)
    }
}
