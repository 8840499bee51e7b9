//! The request headers and cookies that a connection keeps for the application: the options `keep_headers` and `keep_cookies`.
//!
//! A credential is no fact about a connection: what is kept waits in a queue, and an application prints it. So what carries one
//! cannot be named.

use crate::auth::{TokenSource, TokenSources};
use crate::config_error::ConfigError;
use crate::syntax::is_token;

/// Names of each kind.
const MAX_NAMES: usize = 32;

/// Headers that are credentials whatever `token_sources` says.
const CREDENTIALS: [(&str, &str); 3] = [
    ("authorization", "it is a credential, which is not kept"),
    ("proxy-authorization", "it is a credential, which is not kept"),
    ("cookie", "it may hold credentials: name the cookies in `keep_cookies`"),
];

/// What is kept of a request.
#[derive(Clone, Debug, Default)]
pub struct KeptNames {
    /// Names of headers, in lower case.
    pub(crate) headers: Box<[String]>,
    /// Names of cookies, which differ by case.
    pub(crate) cookies: Box<[String]>,
}

impl KeptNames {
    /// Checks the names, where tokens come from `sources`.
    ///
    /// # Errors
    /// Names the option and the entry, such as `keep_headers[2]`.
    pub fn new(headers: &[String], cookies: &[String], sources: &TokenSources) -> Result<Self, ConfigError> {
        let headers: Vec<_> = headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        check("keep_headers", &headers, |name| {
            let is_source = |source: &TokenSource| matches!(source, TokenSource::Header(own) if own == name);
            if let Some((_, why)) = CREDENTIALS.iter().find(|(known, _)| *known == name) {
                return Err(*why);
            }
            if name == "sec-websocket-protocol" && sources.lists_subprotocol() {
                return Err("it may hold a token, as `token_sources` lists \"subprotocol\"");
            }
            if sources.iter().any(is_source) {
                Err("it is one of `token_sources`, and tokens are not kept")
            } else {
                Ok(())
            }
        })?;
        check("keep_cookies", cookies, |name| {
            let is_source = |source: &TokenSource| matches!(source, TokenSource::Cookie(own) if own == name);
            if sources.iter().any(is_source) {
                Err("it is one of `token_sources`, and tokens are not kept")
            } else {
                Ok(())
            }
        })?;
        Ok(Self { headers: headers.into(), cookies: cookies.into() })
    }
}

fn check(
    option: &str,
    names: &[String],
    may_be_kept: impl Fn(&str) -> Result<(), &'static str>,
) -> Result<(), ConfigError> {
    if names.len() > MAX_NAMES {
        return Err(ConfigError::invalid(option, format!("must list at most {MAX_NAMES} names")));
    }
    for (index, name) in names.iter().enumerate() {
        let invalid = |what: &str| ConfigError::invalid(format!("{option}[{index}]"), what.to_owned());
        if !is_token(name) {
            return Err(invalid("must be a name of letters, digits and !#$%&'*+-.^_`|~"));
        }
        if names[..index].contains(name) {
            return Err(invalid("is listed twice"));
        }
        may_be_kept(name).map_err(invalid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(headers: &[&str], cookies: &[&str], sources: &[&str]) -> Result<KeptNames, String> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let sources = TokenSources::parse(&own(sources)).unwrap();
        KeptNames::new(&own(headers), &own(cookies), &sources).map_err(|error| error.to_string())
    }

    #[test]
    fn credentials_cannot_be_kept_by_name() {
        let sources = ["header:x-key", "cookie:sid", "subprotocol"];
        for (headers, cookies, at) in [
            (&["user-agent", "Authorization"][..], &[][..], "keep_headers[1]"),
            (&["Cookie"], &[], "keep_headers[0]"),
            (&["proxy-authorization"], &[], "keep_headers[0]"),
            (&["Sec-WebSocket-Protocol"], &[], "keep_headers[0]"),
            (&["X-KEY"], &[], "keep_headers[0]"),
            (&["a", "A"], &[], "keep_headers[1]"),
            (&["a b"], &[], "keep_headers[0]"),
            (&[""], &[], "keep_headers[0]"),
            (&[], &["theme", "sid"], "keep_cookies[1]"),
            (&[], &["a;b"], "keep_cookies[0]"),
        ] {
            let error = kept(headers, cookies, &sources).unwrap_err();
            assert!(error.contains(at), "{error}");
        }
        assert!(kept(&["sec-websocket-protocol", "X-Key"], &["sid", "SID"], &["bearer"]).is_ok());
        assert!(kept(&["a"; 33], &[], &["bearer"]).unwrap_err().contains("at most 32"));
    }
}
