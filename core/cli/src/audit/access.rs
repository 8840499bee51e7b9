//! Credentials: what is shown to be let in, and what is shown instead where a check leaves it out or gets it wrong.

use std::path::Path;

use super::text::percent;
use crate::outcome::Failure;

/// The value that stands for a wrong credential.
const WRONG: &str = "wsguard-audit-wrong-credential";
/// `{"alg":"none","typ":"JWT"}` in base64url.
const ALG_NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

/// Where in the opening handshake a credential stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `Authorization: Bearer …`.
    Bearer,
    /// A header of this name.
    Header(String),
    /// A cookie of this name.
    Cookie(String),
    /// A parameter of the URL.
    Query(String),
    /// `Sec-WebSocket-Protocol: bearer, …`.
    Subprotocol,
    /// A member of `auth`, which a client of Socket.IO sends after the 101.
    SocketIo(String),
}

impl Place {
    /// As `token_sources` of a policy names them.
    pub(crate) fn parse(source: &str) -> Result<Self, Failure> {
        let (kind, name) = source.split_once(':').unwrap_or((source, ""));
        match (kind, is_token(name)) {
            ("bearer", _) if name.is_empty() => Ok(Self::Bearer),
            ("subprotocol", _) if name.is_empty() => Ok(Self::Subprotocol),
            ("header", true) => Ok(Self::Header(name.to_owned())),
            ("cookie", true) => Ok(Self::Cookie(name.to_owned())),
            ("query", true) => Ok(Self::Query(name.to_owned())),
            ("socket.io", true) => Ok(Self::SocketIo(name.to_owned())),
            _ => Err(Failure::new(
                "--token-source: expected bearer, header:NAME, cookie:NAME, query:NAME, subprotocol or socket.io:NAME",
            )),
        }
    }

    /// Whether a browser adds it by itself, to a request of any page.
    fn is_ambient(&self, value: &str) -> bool {
        match self {
            Self::Cookie(_) => true,
            Self::Header(name) => {
                let scheme = value.split(' ').next().unwrap_or_default();
                name.eq_ignore_ascii_case("authorization") && scheme.eq_ignore_ascii_case("basic")
            }
            Self::Bearer | Self::Query(_) | Self::Subprotocol | Self::SocketIo(_) => false,
        }
    }
}

/// All credentials of a request, and what they are replaced with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access(Vec<(Place, String)>);

impl Access {
    /// Adds one; a value `env:NAME` or `file:PATH` stands for what is there.
    pub(crate) fn add(&mut self, place: Place, value: &str) -> Result<(), Failure> {
        let value = read_secret(value)?;
        if value.bytes().any(|byte| byte.is_ascii_control()) || value.is_empty() {
            return Err(Failure::new("a credential is empty or holds a control character"));
        }
        match place {
            // Each by itself: a browser adds them, and a wrong credential is wrong in every one of them.
            Place::Header(name) if name.eq_ignore_ascii_case("cookie") => {
                for one in value.split(';').map(str::trim).filter(|one| !one.is_empty()) {
                    let (name, value) = pair("--header Cookie", one, '=')?;
                    self.0.push((Place::Cookie(name.to_owned()), value.to_owned()));
                }
            }
            place => self.0.push((place, value)),
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a page of another site would be let in with what the browser adds by itself.
    pub(crate) fn is_ambient(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|(place, value)| place.is_ambient(value))
    }

    /// What the browser adds by itself.
    pub(crate) fn ambient(&self) -> Self {
        Self(self.0.iter().filter(|(place, value)| place.is_ambient(value)).cloned().collect())
    }

    /// Whether one stands in the URL.
    pub(crate) fn in_url(&self) -> bool {
        self.0.iter().any(|(place, _)| matches!(place, Place::Query(_)))
    }

    /// Each value, and the words of those that have several: `Basic x`.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        let words = |value: &str| {
            let words = value.split_whitespace().filter(|word| word.len() >= 8);
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(move |(_, value)| std::iter::once(value.clone()).chain(words(value)))
    }

    /// The same places with values that no server may accept: a made-up one, and for a JSON Web Token one without a signature and
    /// one with a changed signature.
    pub(crate) fn wrong(&self) -> Vec<(&'static str, Self)> {
        let with = |change: Change| {
            let changed = self.0.iter().map(|(place, value)| Some((place.clone(), change(value)?)));
            changed.collect::<Option<Vec<_>>>().map(Self)
        };
        let mut all = Vec::new();
        all.extend(with(|value| Some(keep_scheme(value, WRONG))).map(|access| ("a made-up credential", access)));
        all.extend(with(unsigned).map(|access| ("the token with alg none and no signature", access)));
        all.extend(with(changed).map(|access| ("the token with another signature", access)));
        all
    }

    /// For each of several credentials: all but that one, and all with that one alone made wrong, in the ways of [`wrong`](Self::wrong).
    pub(crate) fn each_wrong(&self) -> Vec<(Self, Vec<(&'static str, Self)>)> {
        const MOST: usize = 3;
        if self.0.len() < 2 {
            return Vec::new();
        }
        let ways: [(&str, Change); 3] = [
            ("one of the credentials made up", |value| Some(keep_scheme(value, WRONG))),
            ("one of the credentials, a token, with alg none and no signature", unsigned),
            ("one of the credentials, a token, with another signature", changed),
        ];
        let of = |index: usize| {
            let mut others = self.clone();
            let (place, value) = others.0.remove(index);
            let with = |value| {
                let mut all = self.clone();
                all.0[index] = (place.clone(), value);
                all
            };
            let wrong = ways.iter().filter_map(|(what, way)| Some((*what, with(way(&value)?)))).collect();
            (others, wrong)
        };
        (0..self.0.len().min(MOST)).map(of).collect()
    }

    /// Lines of the head, each with its end.
    pub(crate) fn lines(&self, protocols: &[String]) -> String {
        let mut lines = Vec::new();
        let (mut cookies, mut offered) = (Vec::new(), Vec::new());
        for (place, value) in &self.0 {
            match place {
                Place::Bearer => lines.push(format!("Authorization: Bearer {value}\r\n")),
                Place::Header(name) => lines.push(format!("{name}: {value}\r\n")),
                Place::Cookie(name) => cookies.push(format!("{name}={value}")),
                Place::Subprotocol => offered.extend(["bearer".to_owned(), value.clone()]),
                Place::Query(_) | Place::SocketIo(_) => {}
            }
        }
        offered.extend(protocols.iter().cloned());
        if !cookies.is_empty() {
            lines.push(format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if !offered.is_empty() {
            lines.push(format!("Sec-WebSocket-Protocol: {}\r\n", offered.join(", ")));
        }
        lines.concat()
    }

    /// The packet that asks Socket.IO's main namespace to let one in, with those that stand there.
    pub(crate) fn connect(&self) -> String {
        let members = self.0.iter().filter_map(|(place, value)| match place {
            Place::SocketIo(name) => Some((name.clone(), serde_json::Value::from(value.as_str()))),
            _ => None,
        });
        let auth: serde_json::Map<_, _> = members.collect();
        if auth.is_empty() { "40".to_owned() } else { format!("40{}", serde_json::Value::from(auth)) }
    }

    /// The query with those that stand there.
    pub(crate) fn query(&self, query: &str) -> String {
        let mut parts: Vec<String> = query.split('&').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        for (place, value) in &self.0 {
            if let Place::Query(name) = place {
                parts.push(format!("{name}={}", percent(value)));
            }
        }
        parts.join("&")
    }
}

/// Another value in place of a credential's own, where there is one.
type Change = fn(&str) -> Option<String>;

/// A token of RFC 9110, as names of headers and cookies are.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// `Bearer x` with another x.
fn keep_scheme(value: &str, token: &str) -> String {
    value.split_once(' ').map_or_else(|| token.to_owned(), |(scheme, _)| format!("{scheme} {token}"))
}

/// What looks like a JSON Web Token, its header, payload and signature, and what stands before and behind it: a scheme, quotes, a
/// cookie's own encoding.
fn jwt(value: &str) -> Option<(&str, [&str; 3], &str)> {
    let is_of_token = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    value.match_indices("ey").find_map(|(at, _)| {
        let end = value[at..].find(|letter| !is_of_token(letter)).map_or(value.len(), |len| at + len);
        let parts: [&str; 3] = value[at..end].split('.').collect::<Vec<_>>().try_into().ok()?;
        (parts[1].starts_with("ey") && parts[2].len() > 8).then_some((&value[..at], parts, &value[end..]))
    })
}

fn unsigned(value: &str) -> Option<String> {
    jwt(value).map(|(before, [_, payload, _], behind)| format!("{before}{ALG_NONE}.{payload}.{behind}"))
}

fn changed(value: &str) -> Option<String> {
    let (before, [header, payload, signature], behind) = jwt(value)?;
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    Some(format!("{before}{header}.{payload}.{first}{}{behind}", signature.get(1..)?))
}

/// `NAME=VALUE`, as cookies and parameters are given.
pub(crate) fn pair<'a>(option: &str, text: &'a str, by: char) -> Result<(&'a str, &'a str), Failure> {
    let (name, value) = text.split_once(by).ok_or_else(|| Failure::new(format!("{option}: expected NAME{by}VALUE")))?;
    if !is_token(name) {
        return Err(Failure::new(format!("{option}: its name is empty or no token of RFC 9110")));
    }
    Ok((name, value.trim()))
}

/// What `env:NAME` or `file:PATH` stands for. A credential on the command line is seen by everybody on the machine.
fn read_secret(value: &str) -> Result<String, Failure> {
    if let Some(name) = value.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| Failure::new(format!("the environment has no variable {name}")));
    }
    if let Some(path) = value.strip_prefix("file:") {
        let bytes = crate::token::read(path, Path::new(path))?;
        let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("{path}: is no text")))?;
        return Ok(text.trim_end().to_owned());
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(places: &[(&str, &str)]) -> Access {
        let mut access = Access::default();
        for (source, value) in places {
            access.add(Place::parse(source).unwrap(), value).unwrap();
        }
        access
    }

    #[test]
    fn each_place_is_written() {
        let all = access(&[
            ("bearer", "t1"),
            ("header:X-Key", "t2"),
            ("cookie:sid", "t3"),
            ("query:token", "t 4"),
            ("subprotocol", "t5"),
        ]);
        assert_eq!(
            all.lines(&["chat".into()]),
            "Authorization: Bearer t1\r\nX-Key: t2\r\nCookie: sid=t3\r\nSec-WebSocket-Protocol: bearer, t5, chat\r\n"
        );
        assert_eq!(all.query("a=1"), "a=1&token=t%204");
        assert_eq!(
            (all.connect().as_str(), access(&[("socket.io:token", "t\"")]).connect().as_str()),
            ("40", r#"40{"token":"t\""}"#)
        );
        assert!(all.is_ambient() && all.in_url());
        assert!(!access(&[("bearer", "t")]).is_ambient());
        assert_eq!(access(&[("cookie:a", "b"), ("query:c", "d")]).ambient(), access(&[("cookie:a", "b")]));
        assert!(Access::default().is_ambient());
    }

    #[test]
    fn wrong_ones_are_wrong() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.0123456789";
        let wrong = access(&[("header:Authorization", &format!("Bearer {token}"))]).wrong();
        let lines: Vec<_> = wrong.iter().map(|(_, access)| access.lines(&[])).collect();
        assert_eq!(lines[0], format!("Authorization: Bearer {WRONG}\r\n"));
        assert_eq!(lines[1], format!("Authorization: Bearer {ALG_NONE}.eyJzdWIiOiJhIn0.\r\n"));
        assert_eq!(lines[2], "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.A123456789\r\n");
        assert_eq!(access(&[("bearer", "opaque")]).wrong().len(), 1);
    }

    #[test]
    fn a_token_is_found_in_what_a_cookie_makes_of_it() {
        for (before, behind) in [("Bearer%20", ""), ("\"", "\""), ("%7B%22token%22%3A%22", "%22%7D"), ("Bearer ", "")] {
            let wrong = access(&[("cookie:auth", &format!("{before}eyJh.eyJz.0123456789{behind}"))]).wrong();
            let lines: Vec<_> = wrong.iter().skip(1).map(|(_, access)| access.lines(&[])).collect();
            assert_eq!(lines[0], format!("Cookie: auth={before}{ALG_NONE}.eyJz.{behind}\r\n"));
            assert_eq!(lines[1], format!("Cookie: auth={before}eyJh.eyJz.A123456789{behind}\r\n"));
        }
        assert_eq!((jwt("ey.ey.short"), jwt("ey.no.0123456789"), jwt("héy")), (None, None, None));
    }

    #[test]
    fn each_of_several_is_made_wrong() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.0123456789";
        let both = access(&[("bearer", token), ("header:X-Api-Key", "k")]);
        let each = both.each_wrong();
        assert_eq!(each.len(), 2);
        assert_eq!((&each[0].0, each[0].1.len()), (&access(&[("header:X-Api-Key", "k")]), 3));
        assert_eq!((&each[1].0, each[1].1.len()), (&access(&[("bearer", token)]), 1));
        assert_eq!(each[1].1[0].1, access(&[("bearer", token), ("header:X-Api-Key", WRONG)]));
        assert!(access(&[("bearer", token)]).each_wrong().is_empty());
    }

    /// One of them alone would stay right where the other is made wrong.
    #[test]
    fn a_header_of_cookies_is_each_of_them() {
        let both = access(&[("header:Cookie", "sid=s%3Aabc; theme=dark")]);
        assert_eq!(both, access(&[("cookie:sid", "s%3Aabc"), ("cookie:theme", "dark")]));
        assert!(both.is_ambient());
        assert_eq!(both.wrong()[0].1.lines(&[]), format!("Cookie: sid={WRONG}; theme={WRONG}\r\n"));
        assert!(access(&[("header:Authorization", "basic YTpi")]).is_ambient());
        assert!(Access::default().add(Place::Header("cookie".into()), "novalue").is_err());
    }

    #[test]
    fn secrets_come_from_elsewhere() {
        let mut access = Access::default();
        access.add(Place::Bearer, "env:CARGO_PKG_NAME").unwrap();
        assert_eq!(access.lines(&[]), "Authorization: Bearer wsguard-cli\r\n");
        assert!(access.add(Place::Bearer, "env:NO_SUCH_VARIABLE_HERE").is_err());
        assert!(access.add(Place::Bearer, "file:/no/such/file").is_err());
        #[cfg(unix)]
        assert!(access.add(Place::Bearer, "file:/dev/zero").is_err());
        assert!(access.add(Place::Bearer, "a\r\nX: y").is_err());
        assert!(Place::parse("cookie:").is_err() && Place::parse("body:x").is_err());
        assert!(pair("--cookie", "a b=c", '=').is_err());
    }
}
