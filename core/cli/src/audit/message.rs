//! The message that stands for an ordinary one, and as large as a probe needs it.

/// What is sent where no `--message` says otherwise. It is JSON, since an application that reads JSON without a guard would end at
/// anything else, and an audit must not end it.
const ORDINARY: &str = r#"{"event":"wsguard-audit","data":null}"#;

/// A text message that an application should take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    text: String,
    /// What it is padded with.
    pad: u8,
    /// Whether the person at the terminal gave it.
    pub(crate) is_given: bool,
}

impl Message {
    pub(crate) fn new(given: Option<String>, engine_io: bool) -> Self {
        let is_given = given.is_some();
        let text = match given {
            Some(text) => text,
            // An event of Socket.IO inside a message of Engine.IO.
            None if engine_io => r#"42["wsguard-audit",null]"#.to_owned(),
            None => ORDINARY.to_owned(),
        };
        // Between the digits and the JSON of Socket.IO there may be spaces as well as before JSON alone.
        let json_at = text.find(|letter: char| !letter.is_ascii_digit() || !engine_io).unwrap_or(text.len());
        let is_json = serde_json::from_str::<serde_json::Value>(&text[json_at..]).is_ok();
        // White space after a JSON text changes nothing for whoever reads it.
        Self { text, pad: if is_json { b' ' } else { b'a' }, is_given }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// As many bytes, and still the same message where it is JSON.
    pub(crate) fn padded(&self, len: usize) -> Vec<u8> {
        let mut bytes = self.text.as_bytes().to_vec();
        bytes.resize(len.max(bytes.len()), self.pad);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_keeps_json() {
        let message = Message::new(None, false);
        let padded = message.padded(1000);
        assert_eq!(padded.len(), 1000);
        assert!(serde_json::from_slice::<serde_json::Value>(&padded).is_ok());
        let io = Message::new(None, true);
        assert!(serde_json::from_slice::<serde_json::Value>(&io.padded(500)[2..]).is_ok());
    }

    #[test]
    fn other_texts_are_padded_with_letters() {
        let message = Message::new(Some("hello".into()), false);
        assert_eq!(message.padded(8), b"helloaaa");
        assert_eq!(message.padded(2), b"hello");
        assert!(message.is_given);
    }
}
