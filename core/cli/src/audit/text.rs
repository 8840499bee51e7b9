//! What a server said, made fit for a terminal: no control character, no credential, no end of it.

/// The longest piece of a server's text that is shown.
const LONGEST: usize = 120;

/// Text of a server, escaped and shortened. Whatever steers a terminal (controls, and the marks that reverse text) is written out.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        if letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Bytes of a server, the same way.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes))
}

/// Takes credentials out of every text before it is printed: a server may send one back.
#[derive(Default)]
pub(crate) struct Redactor(Vec<String>);

impl Redactor {
    /// Short ones are no secret, and would cut words.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| secret.len() >= 4).collect();
        // The longest first: one may hold another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret, "[credential]");
            // `shown` cuts texts: the beginning of a long secret is one too.
            if let Some((start, _)) = secret.char_indices().nth(8) {
                let beginning = &secret[..start];
                if let Some(at) = text.find(beginning) {
                    let end = text[at..].find(|letter: char| letter.is_whitespace() || letter == '"' || letter == '…');
                    let end = end.map_or(text.len(), |end| at + end);
                    text.replace_range(at..end, "[credential]");
                }
            }
        }
        text
    }
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
    fn nothing_steers_the_terminal() {
        assert_eq!(shown("a\x1b[31mred\r\n\u{202e}x\u{9b}"), "a\\u{1b}[31mred\\r\\n\\u{202e}x\\u{9b}");
        assert!(shown(&"é".repeat(1000)).chars().count() <= LONGEST / 2 + 1);
        assert_eq!(shown_bytes(b"\xff\x00ok"), "\u{fffd}\\u{0}ok");
    }

    #[test]
    fn credentials_are_taken_out() {
        let redactor = Redactor::new(["correct horse battery".to_owned(), "abc".to_owned()]);
        assert_eq!(redactor.clean("got correct horse battery, abc"), "got [credential], abc");
        let cut = Redactor::new(["0123456789abcdef".to_owned()]);
        assert_eq!(cut.clean("bad token 0123456789ab… end"), "bad token [credential]… end");
    }
}
