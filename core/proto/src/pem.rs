//! PEM texts (RFC 7468) as people really give them: from files, environment variables, YAML.
//!
//! White space of any kind is passed over (section 3, "lax"), and so are newlines written out as `\n`, a byte order mark
//! and whatever stands around the blocks. What is left is a fault with a name. No fault repeats what was given: it may be
//! a private key.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config_error::ConfigError;
use crate::files::Files;
use crate::pathlike::is_clearly_a_path;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// No label is longer.
const MAX_LABEL: usize = 64;

const ENCRYPTED: &str = "is encrypted: decrypt it first, e.g. with `openssl pkey`";
const BARE: &str = "is base64 without its BEGIN and END lines: give the whole PEM text";

/// One block: its label and what it holds.
pub struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, …
    pub label: String,
    /// What the base64 text stands for.
    pub der: Vec<u8>,
}

/// The blocks of `value`: a PEM text, or the path of a file that holds one. There is at least one.
pub fn load(option: &str, value: &str, files: &dyn Files) -> Result<Vec<Block>, ConfigError> {
    let invalid = |what: &str| ConfigError::invalid(option, what);
    if value.contains(DASHES) || value.contains('\n') {
        return blocks(value.as_bytes()).map_err(invalid);
    }
    let bytes = files.read(value).map_err(|error| not_read(option, value, &error, files))?;
    let file = if is_clearly_a_path(value, files) { format!("the file {value}") } else { "the file".to_owned() };
    blocks(&bytes).map_err(|what| invalid(&format!("{file} {what}")))
}

/// The value named no readable file. It is repeated only where it cannot be a secret.
fn not_read(option: &str, value: &str, error: &io::Error, files: &dyn Files) -> ConfigError {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::IsADirectory => "it is a directory",
        _ => "it is no file",
    };
    let message = if is_clearly_a_path(value, files) {
        format!("the file {value} cannot be read: {why}")
    } else if value.trim().is_empty() {
        "is empty; give a PEM text, or the path of a PEM file".to_owned()
    } else if value.len() >= 40 && value.bytes().all(is_base64) {
        BARE.to_owned()
    } else {
        "is neither PEM text nor a readable file (it may be a secret, so it is not repeated)".to_owned()
    };
    ConfigError::invalid(option, message)
}

/// The blocks of a text, or what is wrong with it, as the end of a sentence.
fn blocks(bytes: &[u8]) -> Result<Vec<Block>, &'static str> {
    let text = text(bytes)?;
    let text = text.trim_start_matches('\u{feff}');
    // Newlines written out, once or twice escaped, as in environment variables and JSON in YAML.
    let text = text.replace("\\\\", "\\").replace("\\r", "").replace("\\n", "\n").replace("\\t", "");
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(BEGIN) {
        if rest[..start].contains(END) {
            return Err("has an END line without its BEGIN line");
        }
        let (block, after) = block(&rest[start + BEGIN.len()..])?;
        found.push(block);
        rest = after;
    }
    if found.is_empty() {
        return Err(no_block(&text));
    }
    if rest.contains(END) { Err("has an END line without its BEGIN line") } else { Ok(found) }
}

/// The text, if it is one.
fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    match bytes {
        [] => return Err("is empty"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err("is UTF-16 text: save it as UTF-8"),
        [0xfe, 0xed, 0xfe, 0xed, ..] => return Err("is a Java key store: export it as PEM"),
        // SEQUENCE { INTEGER 3, … }
        [0x30, 0x82, _, _, 2, 1, 3, ..] | [0x30, 0x80, 2, 1, 3, ..] | [0x30, 0x83, _, _, _, 2, 1, 3, ..] => {
            return Err("is a PKCS #12 file: convert it to PEM, e.g. with `openssl pkcs12 -nodes`");
        }
        [0x30, 0x80..=0x84, ..] => return Err("is DER, the binary form: convert it to PEM, e.g. with `openssl`"),
        _ => {}
    }
    str::from_utf8(bytes).map_err(|_| "is no text: a PEM text begins with `-----BEGIN`")
}

fn no_block(text: &str) -> &'static str {
    if text.contains(END) {
        "has lost its BEGIN line"
    } else if text.trim().is_empty() {
        "is empty"
    } else if text.bytes().all(|byte| is_base64(byte) || byte.is_ascii_whitespace()) {
        BARE
    } else if text.contains("BEGIN") {
        "has a damaged BEGIN line: it begins with five hyphens and ends with five"
    } else {
        "is no PEM text: it begins with `-----BEGIN`"
    }
}

/// The block whose label begins `text`, and what follows it.
fn block(text: &str) -> Result<(Block, &str), &'static str> {
    let label = text.find(DASHES).map(|end| &text[..end]).filter(|label| is_label(label));
    let label = label.ok_or("has a damaged BEGIN line: it begins with five hyphens and ends with five")?;
    let inside = &text[label.len() + DASHES.len()..];
    let end = inside.find(END).ok_or("has lost its END line, or is cut off")?;
    let (body, after) = (&inside[..end], &inside[end + END.len()..]);
    if body.contains(BEGIN) {
        return Err("has lost an END line");
    }
    let after = after.strip_prefix(label).and_then(|after| after.strip_prefix(DASHES));
    let after = after.ok_or("has a BEGIN line and an END line that differ, or a damaged END line")?;
    if label == "ENCRYPTED PRIVATE KEY" || body.contains("ENCRYPTED") {
        return Err(ENCRYPTED);
    }
    let body: String = body.chars().filter(|letter| !letter.is_whitespace()).collect();
    if body.is_empty() {
        return Err("is empty between its BEGIN and END lines");
    }
    let der = STANDARD.decode(&body).map_err(|_| "is damaged between its BEGIN and END lines: not base64")?;
    Ok((Block { label: label.to_owned(), der }, after))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && label.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'#'))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::NoFiles;
    use proptest::prelude::*;

    /// The bytes of the name of nobody's key, base64: `TWFya2VyLU1hcmtlci1NYXJrZXItTWFya2VyLU1hcmtlci1NYXJrZXItMTIz`.
    const BODY: &str = "TWFya2VyLU1hcmtlci1NYXJrZXItTWFya2VyLU1hcmtlci1NYXJrZXItMTIz";
    const DER: &[u8] = b"Marker-Marker-Marker-Marker-Marker-Marker-123";

    fn usual() -> String {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n", &BODY[..40], &BODY[40..])
    }

    #[test]
    fn one_key_has_many_spellings() {
        let usual = usual();
        for text in [
            usual.clone(),
            usual.replace('\n', "\r\n"),
            usual.replace('\n', "\r"),
            usual.replace('\n', "\\n"),
            usual.replace('\n', "\\r\\n"),
            usual.replace('\n', "\\\\n"),
            usual.replace('\n', " "),
            usual.replace('\n', ""),
            usual.replace('\n', "\n    "),
            usual.replace('\n', "\n\n"),
            format!("\u{feff}{usual}"),
            format!("# my key\n{usual}# end"),
            format!("\"{}\"", usual.replace('\n', "\\n")),
            format!("Bag Attributes\n    friendlyName: x\n{usual}"),
            usual.trim_end().to_owned(),
        ] {
            let found = load("tls.key", &text, &NoFiles).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(found.len() == 1 && found[0].label == "PRIVATE KEY" && found[0].der == DER, "{text:?}");
        }
    }

    #[test]
    fn several_blocks_come_in_their_order() {
        let text = format!("{}{}", usual(), usual().replace("PRIVATE KEY", "CERTIFICATE"));
        let labels: Vec<_> = blocks(text.as_bytes()).unwrap().into_iter().map(|block| block.label).collect();
        assert_eq!(labels, ["PRIVATE KEY", "CERTIFICATE"]);
    }

    #[test]
    fn each_fault_has_its_name() {
        let usual = usual();
        let legacy = "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n";
        for (text, words) in [
            (usual.replacen("-----BEGIN PRIVATE KEY-----\n", "", 1), "lost its BEGIN line"),
            (usual.replace("-----END PRIVATE KEY-----\n", ""), "lost its END line"),
            (usual.replace("-----END PRIVATE", "-----END PUBLIC"), "differ"),
            (usual.replace("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY--"), "damaged BEGIN line"),
            (usual.replace("-----", "----"), "damaged BEGIN line"),
            (usual.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "is encrypted: decrypt it first"),
            (usual.replace("-----BEGIN PRIVATE KEY-----\n", legacy), "is encrypted: decrypt it first"),
            (format!("{usual}{}", usual.replace("-----END PRIVATE KEY-----\n", "")), "lost its END line"),
            (format!("{}{usual}", usual.replace("-----END PRIVATE KEY-----\n", "")), "lost an END line"),
            (usual.replace("TWFya2", "TWFya"), "not base64"),
            (usual.replace("TWFya2", "T!Fya2"), "not base64"),
            ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----".to_owned(), "is empty between"),
            (BODY.to_owned(), "base64 without its BEGIN"),
            (format!("{}\n{}", &BODY[..40], &BODY[40..]), "base64 without its BEGIN"),
            ("hunter2".to_owned(), "neither PEM text nor a readable file"),
            (String::new(), "is empty"),
            ("\n".to_owned(), "is empty"),
            (r"C:\nginx\key.pem".to_owned(), r"the file C:\nginx\key.pem cannot be read"),
            ("/nonexistent/key.pem".to_owned(), "the file /nonexistent/key.pem cannot be read: there is no such file"),
        ] {
            let error = load("tls.key", &text, &NoFiles).err().unwrap_or_else(|| panic!("{text:?}"));
            assert!(error.message.contains(words), "{text:?}: {error}");
        }
        for (bytes, words) in [
            (&[0x30, 0x82, 4, 0, 2, 1, 3, 0x30][..], "PKCS #12"),
            (&[0x30, 0x82, 4, 0, 2, 1, 0, 0x30], "DER"),
            (&[0xff, 0xfe, b'-', 0], "UTF-16"),
            (&[0xfe, 0xed, 0xfe, 0xed], "Java"),
            (&[0xc0, 0xc1], "is no text"),
            (&[], "is empty"),
        ] {
            assert!(blocks(bytes).err().unwrap().contains(words), "{words}");
        }
    }

    proptest! {
        /// However a key is mangled, it is a key or an error without any part of it.
        #[test]
        fn no_fault_repeats_what_was_given(
            cuts in proptest::collection::vec((0..160_usize, 0..6_usize), 0..5),
            junk in "[ \\\\n\t\u{feff}=!-]{0,4}",
        ) {
            let mut text = usual();
            for (at, how) in cuts {
                let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                match how {
                    0 => text.insert_str(at, &junk),
                    1 => text.truncate(at),
                    2 => text = text.split_off(at),
                    3 => text = text.replace('\n', &junk),
                    4 => text = text.replacen("-----", &junk, 1),
                    _ => text = text.to_lowercase(),
                }
            }
            if let Err(error) = load("tls.key", &text, &NoFiles) {
                let shown = format!("{error} {error:?}");
                for part in BODY.as_bytes().chunks(6).chain(BODY.to_lowercase().as_bytes().chunks(6)) {
                    prop_assert!(!shown.contains(str::from_utf8(part).unwrap()), "{}", shown);
                }
            }
        }
    }
}
