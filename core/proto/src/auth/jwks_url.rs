//! The URL that keys are fetched from: what is accepted, what of it is shown, and where a redirect may lead.

use core::fmt;
use core::net::IpAddr;

use crate::host_header::Authority;

/// The longest URL, in bytes.
const MAX_BYTES: usize = 2048;
const ACCEPTED: &str = "must be an https URL such as \"https://issuer.example/jwks.json\"";

/// An absolute `https` URL, or an `http` one whose host is this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl {
    text: String,
    is_https: bool,
    /// Where the authority begins and ends.
    authority: (usize, usize),
}

impl JwksUrl {
    /// Checks a URL. The error is a sentence without its subject; it repeats nothing of the text, which may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("must be a URL of at most 2048 bytes");
        }
        let is_written = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
        let scheme_len = text.find("://").ok_or(ACCEPTED)?;
        if !text.bytes().all(is_written) {
            return Err("must be a URL of ASCII characters, anything else percent-encoded");
        }
        let is_https = match &text[..scheme_len] {
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(ACCEPTED),
        };
        let start = scheme_len + "://".len();
        let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |len| start + len);
        if text[start..end].contains('@') {
            return Err("must not hold a user name or a password: a key set is public");
        }
        if text[end..].contains('#') {
            return Err("must not have a fragment (`#…`)");
        }
        let authority = Authority::parse(&text.as_bytes()[start..end]).ok_or(ACCEPTED)?;
        if !is_https && !is_loopback(authority.host) {
            return Err(
                "must be an https URL; plain http is for an issuer on this machine (127.0.0.1, [::1], localhost)",
            );
        }
        Ok(Self { text: text.to_owned(), is_https, authority: (start, end) })
    }

    /// The whole URL, for the request. A query may hold a key, so logs and errors show [`JwksUrl::origin`].
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host and port as they are written: what logs and errors show.
    pub fn origin(&self) -> &str {
        &self.text[..self.authority.1]
    }

    /// Whether the issuer proves who it is.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Where a redirect with this `Location` leads; `None`: to another origin (RFC 6454 section 5), or nowhere.
    ///
    /// Whoever may redirect elsewhere may choose the keys, and have requests sent into the network of the server. Of relative
    /// references only a path from the root is followed.
    pub fn redirected(&self, location: &str) -> Option<Self> {
        let is_path = location.starts_with('/') && !location.starts_with("//");
        let target = if is_path { format!("{}{location}", self.origin()) } else { location.to_owned() };
        let target = Self::parse(&target).ok()?;
        let default_port = if self.is_https { 443 } else { 80 };
        let same = target.is_https == self.is_https && target.host()?.same_as(&self.host()?, default_port);
        same.then_some(target)
    }

    fn host(&self) -> Option<Authority<'_>> {
        Authority::parse(&self.text.as_bytes()[self.authority.0..self.authority.1])
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.origin())
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_required_except_on_this_machine() {
        for good in [
            "https://issuer.example/jwks.json",
            "https://issuer.example",
            "HTTPS://issuer.example:8443/a/b?key=1",
            "https://[2001:db8::1]/jwks",
            "http://127.0.0.1:8080/jwks",
            "http://127.9.9.9/jwks",
            "http://[::1]:1/jwks",
            "http://LocalHost/jwks",
        ] {
            assert!(JwksUrl::parse(good).is_ok(), "{good}");
        }
        let long = format!("https://issuer.example/{}", "x".repeat(2048));
        for bad in [
            "",
            "issuer.example/jwks.json",
            "http://issuer.example/jwks.json",
            "http://127.0.0.1.example/jwks",
            "http://localhost.example/jwks",
            "http://10.0.0.1/jwks",
            "http://[::ffff:10.0.0.1]/jwks",
            "ftp://issuer.example/jwks",
            "file:///etc/jwks.json",
            "https:///jwks.json",
            "https://",
            "https://issuer.example:0/",
            "https://issuer.example:99999/",
            "https://issuer.example/a b",
            "https://issuer.example/\r\nHost: evil",
            "https://issuer.example\\@evil.example/",
            "https://issüer.example/",
            "https://issuer.example/#fragment",
            " https://issuer.example/",
            long.as_str(),
        ] {
            assert!(JwksUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        for url in
            ["https://user:Hunter2@issuer.example/", "https://Hunter2@issuer.example", "http://a:Hunter2@127.0.0.1/"]
        {
            let error = JwksUrl::parse(url).unwrap_err();
            assert!(error.contains("password") && !error.contains("Hunter2"), "{error}");
        }
    }

    #[test]
    fn only_the_origin_is_shown() {
        let url = JwksUrl::parse("https://issuer.example:8443/realm/keys?api_key=Hunter2").unwrap();
        assert_eq!(url.origin(), "https://issuer.example:8443");
        assert_eq!(format!("{url:?}"), "https://issuer.example:8443/…");
    }

    #[test]
    fn redirects_stay_at_the_origin() {
        let url = JwksUrl::parse("https://issuer.example/jwks").unwrap();
        let leads = |location| url.redirected(location).map(|url| url.as_str().to_owned());
        for (location, target) in [
            ("/new?v=2", "https://issuer.example/new?v=2"),
            ("https://issuer.example/new", "https://issuer.example/new"),
            ("https://ISSUER.example:443/new", "https://ISSUER.example:443/new"),
        ] {
            assert_eq!(leads(location).as_deref(), Some(target), "{location}");
        }
        for location in [
            "https://evil.example/jwks",
            "//evil.example/jwks",
            "http://issuer.example/jwks",
            "http://127.0.0.1/jwks",
            "https://issuer.example:8443/jwks",
            "https://user@issuer.example/jwks",
            "https://issuer.example.evil.example/",
            "https://issuer.example@evil.example/",
            "/\\evil.example",
            "jwks2",
            "../jwks",
            "",
            "/a\nb",
        ] {
            assert_eq!(leads(location), None, "{location}");
        }
    }
}
