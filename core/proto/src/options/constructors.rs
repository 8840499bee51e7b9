//! Options without the fields that have a default: for those who write them in Rust.

use super::{Auth, OneOrMany, Options, TlsOptions, TlsVersion, TokenEntry};

impl Options {
    /// The two options without a default, and the defaults of all others: change their fields.
    pub fn new(origins: impl IntoIterator<Item = impl Into<String>>, auth: Auth) -> Self {
        let origins = origins.into_iter().map(Into::into).collect();
        Self { origins: Some(origins), auth: Some(auth), ..Self::default() }
    }
}

impl TokenEntry {
    /// A token and its user.
    pub fn new(token: impl Into<String>, user: impl Into<String>) -> Self {
        Self { token: Some(token.into()), sha256: None, user: user.into(), roles: Vec::new() }
    }
}

impl TlsOptions {
    /// A certificate chain and its key, each as PEM text or the path of a PEM file; TLS 1.2 or later.
    pub fn new(cert: impl Into<String>, key: impl Into<String>) -> Self {
        Self { cert: cert.into(), key: key.into(), client_ca: None, min_version: TlsVersion::default() }
    }
}

impl From<&str> for OneOrMany {
    fn from(text: &str) -> Self {
        OneOrMany::One(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;
    use crate::files::NoFiles;

    #[test]
    fn what_is_written_in_rust_is_what_json_says() {
        let options = Options::new(["https://a.example"], Auth::Tokens(vec![TokenEntry::new("change-me", "alice")]));
        let json =
            r#"{"origins": ["https://a.example"], "auth": {"tokens": [{"token": "change-me", "user": "alice"}]}}"#;
        let read = Options::from_json(json).unwrap();
        assert_eq!(format!("{options:?}"), format!("{read:?}"));
        assert!(Policy::new(options, &NoFiles).is_ok());
    }
}
