//! Static tokens: which user a token from the configuration stands for.
//!
//! Only SHA-256 digests are kept, and every one of them is compared in constant time: neither the time a
//! lookup takes nor a memory dump tells a token. SHA-256 without salt or stretching is enough for what a token should
//! be, random; a password does not belong here.

use core::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::{MAX_TOKEN_BYTES, check_user, is_visible_ascii};
use crate::config_error::ConfigError;
use crate::options::TokenEntry;
use crate::roles::Roles;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// A token of fewer bytes may be guessed: 16 random ones are 128 bits, or 64 in hexadecimal digits.
const SHORT_BYTES: usize = 16;

/// One token.
pub(super) struct Known {
    pub(super) digest: Digest,
    pub(super) user: String,
    pub(super) roles: Roles,
}

/// A fixed list of tokens, kept as digests.
pub struct StaticTokens {
    entries: Vec<Known>,
    short: usize,
}

impl StaticTokens {
    /// Checks and digests the entries of `auth.tokens`. The plain tokens are not kept.
    ///
    /// # Errors
    /// An empty list; an entry without exactly one of `token` and `sha256`; a digest that is not 64 hexadecimal
    /// digits; a token that no request could carry; a bad user or role; a token given twice. Each names its entry:
    /// `auth.tokens[1].sha256`.
    pub fn new(entries: Vec<TokenEntry>) -> Result<Self, ConfigError> {
        if entries.is_empty() {
            return Err(ConfigError::invalid("auth.tokens", "must list at least one token"));
        }
        let mut known: Vec<Known> = Vec::with_capacity(entries.len());
        let is_short = |entry: &TokenEntry| entry.token.as_ref().is_some_and(|token| token.len() < SHORT_BYTES);
        let short = entries.iter().filter(|entry| is_short(entry)).count();
        for (index, entry) in entries.into_iter().enumerate() {
            let option = format!("auth.tokens[{index}]");
            let digest = entry_digest(&option, &entry)?;
            if let Some(first) = known.iter().position(|other| other.digest == digest) {
                let message = format!("is the same token as auth.tokens[{first}]; each token stands for one user");
                return Err(ConfigError::contradiction(option, message));
            }
            check_user(&entry.user).map_err(|what| ConfigError::invalid(format!("{option}.user"), what))?;
            let roles = Roles::new(entry.roles.iter().map(String::as_str));
            let roles = roles.map_err(|what| ConfigError::invalid(format!("{option}.roles"), what))?;
            known.push(Known { digest, user: entry.user, roles });
        }
        Ok(Self { entries: known, short })
    }

    /// How many tokens were given that are shorter than 16 bytes. That is no error, as tests and demonstrations have such
    /// tokens and a digest tells no length, but worth a word at start.
    pub fn short(&self) -> usize {
        self.short
    }

    /// The token with this digest.
    pub(super) fn find(&self, digest: &Digest) -> Option<&Known> {
        self.entries.iter().find(|known| known.digest == *digest)
    }

    /// What is known of `token`, if it is one of the list. The empty token never is.
    ///
    /// Takes the same time wherever and whether it matches: all digests are compared, each in constant time.
    pub(super) fn lookup(&self, token: &str) -> Option<&Known> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let presented = digest(&SHA256, token.as_bytes());
        let mut found = None;
        for known in &self.entries {
            if verify_slices_are_equal(&known.digest, presented.as_ref()).is_ok() {
                found = Some(known);
            }
        }
        found
    }
}

/// Shows the users, never a digest.
impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.iter().map(|known| &known.user)).finish()
    }
}

fn entry_digest(option: &str, entry: &TokenEntry) -> Result<Digest, ConfigError> {
    match (&entry.token, &entry.sha256) {
        (Some(_), Some(_)) => {
            Err(ConfigError::contradiction(option, "gives both `token` and `sha256`; exactly one is accepted"))
        }
        (None, None) => Err(ConfigError::missing(option, "needs `token` or `sha256`")),
        (Some(token), None) => {
            if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !is_visible_ascii(token.as_bytes()) {
                let what = format!("must be 1 to {MAX_TOKEN_BYTES} bytes of visible ASCII");
                return Err(ConfigError::invalid(format!("{option}.token"), what));
            }
            let mut bytes = Digest::default();
            bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
            Ok(bytes)
        }
        (None, Some(hex)) => parse_hex(hex)
            .ok_or_else(|| ConfigError::invalid(format!("{option}.sha256"), "must be 64 hexadecimal digits")),
    }
}

fn parse_hex(text: &str) -> Option<Digest> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != SHA256_OUTPUT_LEN || !rest.is_empty() {
        return None;
    }
    let mut bytes = Digest::default();
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_value(high)? << 4 | hex_value(low)?;
    }
    Some(bytes)
}

/// The value of one hexadecimal digit.
pub(super) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf alpha | sha256sum`
    const ALPHA: &str = "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8";

    fn entries(json: &str) -> Result<Vec<TokenEntry>, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn build(json: &str) -> Result<StaticTokens, ConfigError> {
        StaticTokens::new(entries(json).unwrap())
    }

    #[test]
    fn both_forms_are_found_and_nothing_else() {
        let tokens = build(&format!(
            r#"[{{"sha256": "{}", "user": "a"}}, {{"token": "beta", "user": "b"}}, {{"token": "gamma", "user": "b"}}]"#,
            ALPHA.to_uppercase()
        ))
        .unwrap();
        for (token, user) in [
            ("alpha", Some("a")),
            ("beta", Some("b")),
            ("gamma", Some("b")),
            ("", None),
            ("alph", None),
            ("alphaa", None),
            ("Alpha", None),
            (" beta", None),
            (ALPHA, None), // the digest is not the token
            ("b", None),
        ] {
            assert_eq!(tokens.lookup(token).map(|known| known.user.as_str()), user, "{token}");
        }
        assert!(tokens.lookup(&"x".repeat(MAX_TOKEN_BYTES + 1)).is_none());
    }

    #[test]
    fn short_tokens_are_counted() {
        let tokens = build(&format!(
            r#"[{{"token": "123456789012345", "user": "a"}}, {{"token": "1234567890123456", "user": "a"}},
            {{"sha256": "{ALPHA}", "user": "b"}}]"#
        ));
        assert_eq!(tokens.unwrap().short(), 1);
    }

    #[test]
    fn the_digest_of_nothing_admits_nobody() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let tokens = build(&format!(r#"[{{"sha256": "{empty}", "user": "a"}}]"#)).unwrap();
        assert!(tokens.lookup("").is_none());
    }

    #[test]
    fn a_bad_entry_is_named() {
        let long_user = format!(r#"[{{"token": "t", "user": "{}"}}]"#, "u".repeat(257));
        let short_digest = format!(r#"[{{"sha256": "{}", "user": "a"}}]"#, &ALPHA[1..]);
        let long_digest = format!(r#"[{{"sha256": "{ALPHA}00", "user": "a"}}]"#);
        let not_hex = format!(r#"[{{"sha256": "+{}", "user": "a"}}]"#, &ALPHA[1..]);
        let twice = format!(r#"[{{"token": "alpha", "user": "a"}}, {{"sha256": "{ALPHA}", "user": "b"}}]"#);
        for (json, option) in [
            ("[]", "auth.tokens"),
            (r#"[{"token": "t", "user": "a"}, {"user": "b"}]"#, "auth.tokens[1]"),
            (r#"[{"token": "t", "sha256": "00", "user": "a"}]"#, "auth.tokens[0]"),
            (r#"[{"token": "t", "user": "a"}, {"sha256": "00", "user": "b"}]"#, "auth.tokens[1].sha256"),
            (&short_digest, "auth.tokens[0].sha256"),
            (&long_digest, "auth.tokens[0].sha256"),
            (&not_hex, "auth.tokens[0].sha256"),
            (r#"[{"token": "", "user": "a"}]"#, "auth.tokens[0].token"),
            (r#"[{"token": "with space", "user": "a"}]"#, "auth.tokens[0].token"),
            (r#"[{"token": "umläut", "user": "a"}]"#, "auth.tokens[0].token"),
            (r#"[{"token": "t", "user": ""}]"#, "auth.tokens[0].user"),
            (r#"[{"token": "t", "user": "a\nb"}]"#, "auth.tokens[0].user"),
            (&long_user, "auth.tokens[0].user"),
            (r#"[{"token": "t", "user": "a", "roles": ["a b"]}]"#, "auth.tokens[0].roles"),
            (r#"[{"token": "t", "user": "a"}, {"token": "t", "user": "b"}]"#, "auth.tokens[1]"),
            (&twice, "auth.tokens[1]"),
        ] {
            let error = build(json).unwrap_err();
            assert_eq!(error.option, option, "{json}");
            assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn unknown_fields_and_a_missing_user_do_not_parse() {
        for json in [r#"[{"token": "t", "user": "a", "role": "x"}]"#, r#"[{"token": "t"}]"#, r#"[{"token": 1}]"#] {
            assert!(entries(json).is_err(), "{json}");
        }
    }

    #[test]
    fn debug_and_errors_hold_no_secret() {
        let json = format!(r#"[{{"token": "hunter2", "user": "a"}}, {{"sha256": "{ALPHA}", "user": "b"}}]"#);
        let parsed = entries(&json).unwrap();
        let shown = format!("{parsed:?} {:?}", StaticTokens::new(parsed.clone()).unwrap());
        let error = build(r#"[{"token": "hunter2 ", "user": "a"}]"#).unwrap_err();
        let shown = format!("{shown} {error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains(ALPHA), "{shown}");
        assert!(shown.contains("\"a\""), "{shown}");
    }
}
