//! What a server said, made fit for a terminal: no control character, no credential, no end of it.

use std::fmt::Write as _;

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

/// How much of a credential's beginning is one: [`shown`] cuts texts.
const TELLING: usize = 8;

impl Redactor {
    /// Short ones are no secret, and would cut words. Each also as it stands in URLs and in JSON.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<_> =
            secrets.into_iter().filter(|secret| secret.len() >= 4).flat_map(|it| forms(&it)).collect();
        // The longest first: one may hold another.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        Self(all)
    }

    pub(crate) fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| without(&text, secret))
    }
}

/// A credential as a server may write it.
fn forms(secret: &str) -> [String; 4] {
    let quoted = serde_json::Value::from(secret).to_string();
    let percent = percent(secret);
    // `%2B` as `%2b`: of the encoded form, only what stands behind a percent sign.
    let lower = percent.split('%').enumerate().map(|(at, part)| match part.get(..2) {
        Some(digits) if at > 0 => format!("%{}{}", digits.to_ascii_lowercase(), &part[2..]),
        _ => part.to_owned(),
    });
    [secret.to_owned(), lower.collect(), percent, quoted.trim_matches('"').to_owned()]
}

/// The text with every place taken out where the secret stands, or a beginning of it.
fn without(text: &str, secret: &str) -> String {
    let telling = secret.char_indices().nth(TELLING).map_or(secret, |(at, _)| &secret[..at]);
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(telling) {
        out += &rest[..at];
        out += "[credential]";
        rest = &rest[at..];
        let alike = rest.chars().zip(secret.chars()).take_while(|(one, other)| one == other);
        rest = &rest[alike.map(|(letter, _)| letter.len_utf8()).sum()..];
    }
    out + rest
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
}
