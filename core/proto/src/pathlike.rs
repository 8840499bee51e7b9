//! Tells the path of a file from a secret, both of which are texts: a secret is never printed, and a path is no secret.

use crate::files::Files;

/// How the names of files with keys and certificates end.
const ENDINGS: [&str; 22] = [
    ".pem", ".key", ".crt", ".cert", ".cer", ".der", ".p12", ".pfx", ".pub", ".jwk", ".jwks", ".json", ".txt",
    ".secret", ".env", ".yml", ".yaml", ".toml", ".conf", ".cfg", ".asc", ".bin",
];

fn ends_like_a_file(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| text.len() > ending.len() && text.ends_with(ending))
}

fn is_path_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-/~".contains(&byte)
}

/// Whether `text` can be nothing but the path of a file, so that an error may repeat it: it ends as such files do, or
/// lies in a directory that exists.
pub(crate) fn is_clearly_a_path(text: &str, files: &dyn Files) -> bool {
    if text.len() > 512 || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return false;
    }
    // A base64 text never has a dot: this is no part of one.
    let after_drive = if is_drive(text) { &text[2..] } else { text };
    if ends_like_a_file(text) && !after_drive.contains(['+', '=', '@', ':']) {
        return true;
    }
    let Some((directory, _)) = text.strip_prefix('/').and_then(|path| path.split_once('/')) else { return false };
    !directory.is_empty() && files.is_directory(&text[..=directory.len()])
}

/// Whether a text that should be an HMAC secret is written like the path of a file, present or missing: signing with a
/// path would let in whoever can guess it.
///
/// A base64 text may begin with a slash; one with `+` or `=` in it is not taken for a path.
pub(crate) fn looks_like_a_path(text: &str, files: &dyn Files) -> bool {
    if text.len() > 512 || text.is_empty() {
        return false;
    }
    if ends_like_a_file(text) || files.is_file(text) {
        return true;
    }
    if ["./", "../", "~", ".\\", "..\\"].iter().any(|start| text.starts_with(start)) || is_drive(text) {
        return true;
    }
    if !text.bytes().all(is_path_letter) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    // Standard base64 has slashes, and letters of both cases, but none of `.`, `-`, `_`.
    let one_case =
        !(text.bytes().any(|byte| byte.is_ascii_uppercase()) && text.bytes().any(|b| b.is_ascii_lowercase()));
    text.contains('/') && (text.contains(['.', '-', '_']) || one_case)
}

/// `C:\` or `C:/`.
fn is_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Disk;

    #[test]
    fn paths_are_not_secrets() {
        for path in [
            "/run/secrets/jwt-hmac-signing-key",
            "/run/secrets/x",
            "/jwt",
            "secrets/jwt.key",
            "secrets/jwt-hmac-signing-key-of-production",
            "./jwt",
            "../jwt",
            "~/jwt",
            "key.pem",
            "KEY.PEM",
            "jwt.secret",
            r"C:\keys\jwt",
            r".\jwt",
            "config/keys/production",
        ] {
            assert!(looks_like_a_path(path, &Disk), "{path}");
        }
    }

    #[test]
    fn secrets_are_not_paths() {
        for secret in [
            "0123456789abcdef0123456789abcdef",
            "/slashes/are/fine+in/base64==",
            "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKw",
            "correct horse battery staple and more",
            "p@ss/word!",
            "",
        ] {
            assert!(!looks_like_a_path(secret, &Disk), "{secret}");
        }
    }

    #[test]
    fn only_what_is_surely_a_path_may_be_repeated() {
        for path in ["/nonexistent/key.pem", "certs/server.crt", r"C:\nginx\key.pem", "/etc/no-such-file", "/tmp/x/y"] {
            assert!(is_clearly_a_path(path, &Disk), "{path}");
        }
        for text in [
            "hunter2",
            "/slashes/are/fine+in/base64==",
            "/9j4AAQSkZJRg",
            "MIGHAgEA",
            "a b.pem",
            "user:pw@host/x.pem",
            "./x",
        ] {
            assert!(!is_clearly_a_path(text, &Disk), "{text}");
        }
    }
}
