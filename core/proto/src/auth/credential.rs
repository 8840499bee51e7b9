//! Where a token is taken from in the opening handshake: the option `token_sources`.
//!
//! The first configured source that is present wins: the order is the operator's, and a browser adds its cookies to
//! whatever else a page sends. One source given twice with different values (two `Authorization` headers, a cookie of
//! the same name in two `Cookie` headers) refuses the request, wherever it stands in that order: nothing says which one
//! counts, and two parsers that pick different ones would disagree about who is calling. Twice with one
//! value is one: browsers do that after a cookie's domain or path has changed. Each source is one pass over the headers.

use core::fmt::{self, Write as _};
use std::borrow::Cow;

use super::{is_visible_ascii, query};
use crate::config_error::ConfigError;
use crate::syntax::is_token;

/// What is accepted as an entry of `token_sources`.
const ACCEPTED: &str = "accepted: \"bearer\", \"header:NAME\", \"cookie:NAME\", \"subprotocol\", \"query:NAME\"";

/// Headers that have a meaning of their own, and so cannot be named by `header:NAME`.
const RESERVED_HEADERS: [(&str, &str); 8] = [
    ("authorization", "use \"bearer\""),
    ("cookie", "use \"cookie:NAME\""),
    ("sec-websocket-protocol", "use \"subprotocol\""),
    ("sec-websocket-key", "it is public"),
    ("host", "it is public"),
    ("origin", "it is public"),
    ("connection", "it is public"),
    ("upgrade", "it is public"),
];

/// One place a token may be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer <token>`.
    Bearer,
    /// The whole value of a header; the name in lower case.
    Header(String),
    /// The value of a cookie; names are case-sensitive.
    Cookie(String),
    /// `Sec-WebSocket-Protocol: bearer, <token>`: all a browser can send without a cookie.
    Subprotocol,
    /// The value of a query parameter; names are case-sensitive. Queries end up in histories and in proxy logs.
    Query(String),
}

impl TokenSource {
    /// Parses `"bearer"`, `"header:NAME"`, `"cookie:NAME"`, `"subprotocol"` or `"query:NAME"`.
    ///
    /// # Errors
    /// The text says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "bearer" => Ok(TokenSource::Bearer),
            None if text == "subprotocol" => Ok(TokenSource::Subprotocol),
            Some(("header", name)) if is_token(name) => {
                let name = name.to_ascii_lowercase();
                match RESERVED_HEADERS.iter().find(|(reserved, _)| *reserved == name) {
                    Some((_, hint)) => Err(format!("the header `{name}` cannot be a token source: {hint}")),
                    None => Ok(TokenSource::Header(name)),
                }
            }
            Some(("cookie", name)) if is_token(name) => Ok(TokenSource::Cookie(name.to_owned())),
            Some(("query", name)) if is_parameter_name(name) => Ok(TokenSource::Query(name.to_owned())),
            Some(("header" | "cookie" | "query", _)) => Err(format!("not a valid name; {ACCEPTED}")),
            _ => Err(format!("unknown source; {ACCEPTED}")),
        }
    }

    /// The raw token of this source, unless it is absent or empty.
    fn find<'a>(&self, request: &'a impl RequestView) -> Result<Option<&'a [u8]>, CredentialError> {
        let twice = || CredentialError::Duplicate(self.clone());
        let found = match self {
            TokenSource::Bearer => {
                let values = request.header_values("authorization").map(trim);
                one_value(values).map_err(|_| twice())?.and_then(bearer)
            }
            TokenSource::Header(name) => one_value(request.header_values(name).map(trim)).map_err(|_| twice())?,
            TokenSource::Cookie(name) => {
                let pairs = request.header_values("cookie").flat_map(cookie_pairs);
                let values = pairs.filter(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value);
                one_value(values).map_err(|_| twice())?
            }
            TokenSource::Subprotocol => {
                let tokens = offers(request).filter_map(|(offer, role)| match role {
                    OfferRole::Token => Some(offer),
                    // Nothing behind it: an empty token, which is none.
                    OfferRole::LastBearer => Some(&b""[..]),
                    OfferRole::Bearer | OfferRole::Protocol => None,
                });
                match one_value(tokens).map_err(|_| twice())? {
                    Some(b"bearer") => return Err(twice()),
                    token => token,
                }
            }
            TokenSource::Query(name) => {
                let values = query::values(request.query().unwrap_or_default(), name);
                one_value(values.map(str::as_bytes)).map_err(|_| twice())?
            }
        };
        Ok(found.map(trim).filter(|token| !token.is_empty()))
    }

    /// The token behind the raw bytes that [`TokenSource::find`] found.
    fn decode<'a>(&self, raw: &'a [u8]) -> Option<Cow<'a, str>> {
        let text = str::from_utf8(raw).ok()?;
        let token = match self {
            TokenSource::Query(_) => query::percent_decode(text)?,
            _ => Cow::Borrowed(text),
        };
        is_visible_ascii(token.as_bytes()).then_some(token)
    }
}

/// As it is written in `token_sources`.
impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::Bearer => f.write_str("bearer"),
            TokenSource::Header(name) => write!(f, "header:{name}"),
            TokenSource::Cookie(name) => write!(f, "cookie:{name}"),
            TokenSource::Subprotocol => f.write_str("subprotocol"),
            TokenSource::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// The option `token_sources`: where a token may be, in the order of preference.
///
/// Default: `bearer`, then `header:x-auth-token`. Neither is sent by a browser on its own, so that a foreign page
/// cannot borrow a visitor's credential; a cookie source leans on the check of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSources(Vec<TokenSource>);

impl Default for TokenSources {
    fn default() -> Self {
        Self(vec![TokenSource::Bearer, TokenSource::Header("x-auth-token".to_owned())])
    }
}

impl TokenSources {
    /// Parses the entries of `token_sources`.
    ///
    /// # Errors
    /// An empty list, an entry that [`TokenSource::parse`] refuses, an entry given twice; named `token_sources[2]`.
    pub fn parse(entries: &[String]) -> Result<Self, ConfigError> {
        if entries.is_empty() {
            return Err(ConfigError::invalid("token_sources", format!("must list at least one source; {ACCEPTED}")));
        }
        let mut sources = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let invalid = |what| ConfigError::invalid(format!("token_sources[{index}]"), what);
            let source = TokenSource::parse(entry).map_err(invalid)?;
            if sources.contains(&source) {
                return Err(invalid("is listed twice".to_owned()));
            }
            sources.push(source);
        }
        Ok(Self(sources))
    }

    /// The sources, in the order of preference.
    pub fn iter(&self) -> impl Iterator<Item = &TokenSource> {
        self.0.iter()
    }

    /// The token of the first source that is present; `None` when none is. An empty token counts as absent.
    ///
    /// # Errors
    /// [`CredentialError::Duplicate`] if any source is given twice with different values, even behind one that gave a
    /// token;
    /// [`CredentialError::Malformed`] if the token that would count cannot be one.
    pub fn extract<'a>(&'a self, request: &'a impl RequestView) -> Result<Option<Credential<'a>>, CredentialError> {
        let mut first = None;
        for source in &self.0 {
            let found = source.find(request)?;
            first = first.or(found.map(|raw| (source, raw)));
        }
        let Some((source, raw)) = first else {
            return Ok(None);
        };
        let token = source.decode(raw).ok_or_else(|| CredentialError::Malformed(source.clone()))?;
        Ok(Some(Credential { token, source }))
    }

    /// `query` without the parameters that are sources.
    pub(crate) fn without_tokens(&self, query: &str) -> String {
        let is_token = |pair: &&str| {
            let sources = self
                .0
                .iter()
                .filter_map(|source| if let TokenSource::Query(name) = source { Some(name) } else { None });
            sources.into_iter().any(|name| query::values(pair, name).next().is_some())
        };
        query.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&")
    }

    /// Whether `subprotocol` is a source: a server that has it speaks the subprotocol `bearer`.
    pub fn lists_subprotocol(&self) -> bool {
        self.0.contains(&TokenSource::Subprotocol)
    }

    /// The sources that a request carries, in words, for the log: by their configured names.
    pub fn describe_present(&self, request: &impl RequestView) -> String {
        list(self.0.iter().filter(|source| !matches!(source.find(request), Ok(None))))
    }

    /// The sources in words, for the log.
    pub fn describe(&self) -> String {
        list(self.0.iter())
    }

    /// `query` (without `?`) as it may be shown: the value of every `query:NAME`, and of the parameters that carry a
    /// credential by custom (`access_token`, `token`, `auth`, `jwt`, `api_key`, `password`, `secret`), replaced by
    /// `[redacted]`.
    pub fn redact_query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let names: Vec<&str> = self
            .0
            .iter()
            .filter_map(|source| match source {
                TokenSource::Query(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        query::redact(query, &names)
    }
}

/// What extraction needs to know of a request.
pub trait RequestView {
    /// The values of every header of this name, which is in lower case, in the order they came.
    fn header_values(&self, lower_case_name: &str) -> impl Iterator<Item = &[u8]>;

    /// The query of the request target, without `?`, not decoded.
    fn query(&self) -> Option<&str>;
}

/// A token, and where it was. Its `Debug` text holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential<'a> {
    /// The token: visible ASCII, not empty. Only `max_head_bytes` bounds it.
    pub token: Cow<'a, str>,
    /// The source that gave it.
    pub source: &'a TokenSource,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("token", &"[redacted]").field("source", self.source).finish()
    }
}

/// Why no credential could be taken from a request that carries one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// The source is given twice, with different values: `handshake_malformed`, 400.
    Duplicate(TokenSource),
    /// The token is not visible ASCII, or its percent-encoding is broken: `auth_failed`, 401.
    Malformed(TokenSource),
}

/// For the log: names the source by its configured name, never by what the peer sent.
impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialError::Duplicate(source) => write!(f, "credential given twice with different values: {source}"),
            CredentialError::Malformed(source) => write!(f, "malformed credential: {source}"),
        }
    }
}

impl std::error::Error for CredentialError {}

// THREATS H21.
/// The cookies of one `Cookie` header, parsed leniently as RFC 6265 section 5.4 servers do: pairs between `;`, white
/// space around names and values dropped, and one pair of double quotes around a value. Pairs without `=` and pairs
/// that are not UTF-8 are left out. One pass, nothing allocated, however many there are.
pub fn cookies(header: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    cookie_pairs(header).filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?)))
}

/// As [`cookies`], but in bytes: a duplicate must not hide behind a value that is not UTF-8.
pub(crate) fn cookie_pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|byte| *byte == b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (trim(&pair[..equals]), trim(&pair[equals + 1..]));
        let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        Some((name, unquoted.unwrap_or(value)))
    })
}

/// The token of an `Authorization` value, if its scheme is `Bearer` (RFC 6750 section 2.1; schemes ignore case).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = trim(value);
    let space = value.iter().position(|byte| *byte == b' ')?;
    value[..space].eq_ignore_ascii_case(b"bearer").then_some(&value[space..])
}

/// What an element of `Sec-WebSocket-Protocol` stands for where `subprotocol` is a token source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferRole {
    /// The name `bearer`, with a token behind it.
    Bearer,
    /// The name `bearer`, and nothing behind it.
    LastBearer,
    /// The element behind `bearer`.
    Token,
    /// A subprotocol.
    Protocol,
}

/// The elements of `Sec-WebSocket-Protocol`, in the order they came, empty ones left out. Subprotocol names are
/// case-sensitive (RFC 6455 section 4.1): `Bearer` is not `bearer`.
pub(crate) fn offers(request: &impl RequestView) -> impl Iterator<Item = (&[u8], OfferRole)> {
    let lines = request.header_values("sec-websocket-protocol");
    let elements = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(trim).filter(|offer| !offer.is_empty());
    let mut elements = elements.peekable();
    let mut token_follows = false;
    core::iter::from_fn(move || {
        let offer = elements.next()?;
        if core::mem::take(&mut token_follows) {
            return Some((offer, OfferRole::Token));
        }
        if offer != b"bearer" {
            return Some((offer, OfferRole::Protocol));
        }
        token_follows = elements.peek().is_some();
        Some((offer, if token_follows { OfferRole::Bearer } else { OfferRole::LastBearer }))
    })
}

/// Sources in words.
fn list<'s>(sources: impl Iterator<Item = &'s TokenSource>) -> String {
    sources.fold(String::new(), |mut list, source| {
        let _ = write!(list, "{}{source}", if list.is_empty() { "" } else { ", " });
        list
    })
}

/// There were two values.
struct Twice;

/// The one value that all items have, if there are any.
fn one_value<'a>(mut items: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, Twice> {
    let first = items.next();
    if items.any(|item| Some(item) != first) { Err(Twice) } else { Ok(first) }
}

/// Without the optional white space of RFC 9110 section 5.6.3 at both ends.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A name that reads the same in any query parser: RFC 3986 unreserved characters, and brackets.
fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request made of header lines and a query.
    #[derive(Default)]
    struct Request {
        headers: Vec<(&'static str, Vec<u8>)>,
        query: Option<&'static str>,
    }

    impl RequestView for Request {
        fn header_values(&self, lower_case_name: &str) -> impl Iterator<Item = &[u8]> {
            let named = self.headers.iter().filter(move |(name, _)| *name == lower_case_name);
            named.map(|(_, value)| value.as_slice())
        }

        fn query(&self) -> Option<&str> {
            self.query
        }
    }

    fn request(headers: &[(&'static str, &str)], query: &'static str) -> Request {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect();
        Request { headers, query: (!query.is_empty()).then_some(query) }
    }

    fn sources(list: &str) -> TokenSources {
        TokenSources::parse(&list.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    /// What is found, in one line: `SOURCE TOKEN`, `-`, `duplicate SOURCE` or `malformed SOURCE`.
    fn extracted(list: &str, request: &Request) -> String {
        match sources(list).extract(request) {
            Ok(Some(credential)) => format!("{} {}", credential.source, credential.token),
            Ok(None) => "-".to_owned(),
            Err(CredentialError::Duplicate(source)) => format!("duplicate {source}"),
            Err(CredentialError::Malformed(source)) => format!("malformed {source}"),
        }
    }

    #[track_caller]
    fn check(list: &str, headers: &[(&'static str, &str)], query: &'static str, expected: &str) {
        assert_eq!(extracted(list, &request(headers, query)), expected, "{list} {headers:?} {query}");
    }

    #[test]
    fn sources_parse_and_print_the_same() {
        for (text, printed) in [
            ("bearer", "bearer"),
            ("subprotocol", "subprotocol"),
            ("header:X-Auth-Token", "header:x-auth-token"),
            ("header:x~y", "header:x~y"),
            ("cookie:__Host-Session", "cookie:__Host-Session"),
            ("query:access_token", "query:access_token"),
        ] {
            let source = TokenSource::parse(text).unwrap();
            assert_eq!(source.to_string(), printed);
            assert_eq!(TokenSource::parse(printed), Ok(source));
        }
    }

    #[test]
    fn bad_sources_are_refused_and_say_what_is_accepted() {
        for text in [
            "",
            "Bearer",
            "bearer:",
            "bearer:x",
            "subprotocol:x",
            "header",
            "header:",
            "header:a b",
            "header:a:b",
            "header:é",
            "cookie:",
            "cookie:a=b",
            "cookie:a;b",
            "cookie:\"a\"",
            "query:",
            "query:a&b",
            "query:a%20",
            "query:a=b",
            "body:x",
            " bearer",
        ] {
            let error = TokenSource::parse(text).unwrap_err();
            assert!(error.contains("\"cookie:NAME\""), "{text}: {error}");
        }
        for (text, hint) in [
            ("header:Authorization", "bearer"),
            ("header:cookie", "cookie:NAME"),
            ("header:Sec-WebSocket-Protocol", "subprotocol"),
            ("header:origin", "public"),
        ] {
            let error = TokenSource::parse(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_bad_list_names_the_entry() {
        let option = |entries: &[&str]| {
            TokenSources::parse(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).unwrap_err().option
        };
        assert_eq!(option(&[]), "token_sources");
        assert_eq!(option(&["bearer", "nonsense"]), "token_sources[1]");
        assert_eq!(option(&["header:X-A", "bearer", "header:x-a"]), "token_sources[2]");
    }

    #[test]
    fn the_default_is_bearer_then_x_auth_token() {
        assert_eq!(TokenSources::default(), sources("bearer header:x-auth-token"));
    }

    #[test]
    fn bearer_takes_the_bearer_scheme_only() {
        for (value, expected) in [
            ("Bearer abc", "bearer abc"),
            ("bEARER   abc  ", "bearer abc"),
            ("Bearer", "-"),
            ("Bearer ", "-"),
            ("", "-"),
            ("abc", "-"),
            ("Bearerabc", "-"),
            ("Bearer\tabc", "-"),
            ("Basic dTpw", "-"),
            ("Negotiate Bearer abc", "-"),
            ("Bearer a b", "malformed bearer"),
            ("Bearer a,b", "bearer a,b"),
            ("Bearer \u{e9}", "malformed bearer"),
            ("Bearer a\u{7f}", "malformed bearer"),
        ] {
            check("bearer", &[("authorization", value)], "", expected);
        }
        check("bearer", &[], "token=abc", "-");
    }

    #[test]
    fn a_header_is_taken_whole() {
        for (value, expected) in [
            ("abc", "header:x-auth-token abc"),
            ("\t abc ", "header:x-auth-token abc"),
            ("", "-"),
            ("  ", "-"),
            ("a b", "malformed header:x-auth-token"),
        ] {
            check("header:x-auth-token", &[("x-auth-token", value)], "", expected);
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        for (value, expected) in [
            ("sid=abc", "cookie:sid abc"),
            ("a=1; sid=abc; b=2", "cookie:sid abc"),
            ("a=1;sid = \"abc\" ;", "cookie:sid abc"),
            ("sid=a=b==", "cookie:sid a=b=="),
            ("SID=abc; xsid=1; sid2=2; sid", "-"),
            ("sid=", "-"),
            ("sid=\"\"", "-"),
            ("sid=\"", "cookie:sid \""),
            ("sid=a b", "malformed cookie:sid"),
            (";;=;= =;", "-"),
        ] {
            check("cookie:sid", &[("cookie", value)], "", expected);
        }
    }

    #[test]
    fn subprotocol_takes_the_element_after_bearer() {
        for (values, expected) in [
            (vec!["bearer, abc"], "subprotocol abc"),
            (vec!["chat, bearer , abc, v2"], "subprotocol abc"),
            (vec!["chat", "bearer", "abc"], "subprotocol abc"),
            (vec!["bearer,, ,abc"], "subprotocol abc"),
            (vec!["Bearer, abc"], "-"),
            (vec!["abc"], "-"),
            (vec!["bearer"], "-"),
            (vec!["abc, bearer,"], "-"),
            (vec!["bearer, a b"], "malformed subprotocol"),
            (vec!["bearer, bearer"], "duplicate subprotocol"),
            (vec!["bearer, abc, bearer, def"], "duplicate subprotocol"),
            (vec!["bearer, abc", "bearer, abc"], "subprotocol abc"),
            (vec!["bearer, abc, bearer"], "duplicate subprotocol"),
        ] {
            let headers: Vec<_> = values.into_iter().map(|value| ("sec-websocket-protocol", value)).collect();
            check("bearer subprotocol", &headers, "", expected);
        }
    }

    #[test]
    fn a_query_token_counts_only_where_it_is_listed() {
        check("bearer header:x-auth-token", &[], "token=abc", "-");
        for (query, expected) in [
            ("token=abc", "query:token abc"),
            ("a=1&token=abc", "query:token abc"),
            ("token=a%2Bb+c%3D", "query:token a+b+c="),
            ("%74oken=abc", "query:token abc"),
            ("Token=abc", "-"),
            ("token=", "-"),
            ("token", "-"),
            ("token=%", "malformed query:token"),
            ("token=%4", "malformed query:token"),
            ("token=a%zz", "malformed query:token"),
            ("token=%20", "malformed query:token"),
            ("token=a%00b", "malformed query:token"),
            ("token=%ff", "malformed query:token"),
            ("token=a&token=a", "query:token a"),
            ("token=a&token=b", "duplicate query:token"),
            ("token=a&token=", "duplicate query:token"),
            ("token=a&%74oken=b", "duplicate query:token"),
            ("token&token=b", "duplicate query:token"),
        ] {
            check("query:token", &[], query, expected);
        }
    }

    #[test]
    fn the_first_configured_source_that_is_present_wins() {
        let headers = [("authorization", "Bearer one"), ("x-auth-token", "two"), ("cookie", "sid=three")];
        check("bearer header:x-auth-token cookie:sid", &headers, "", "bearer one");
        check("cookie:sid bearer", &headers, "", "cookie:sid three");
        check("query:t header:x-auth-token bearer", &headers, "t=", "header:x-auth-token two");
        check("bearer header:x-auth-token", &[("authorization", "Basic x"), headers[1]], "", "header:x-auth-token two");
        // a broken token that comes first is not skipped for a good one
        check("bearer header:x-auth-token", &[("authorization", "Bearer a b"), headers[1]], "", "malformed bearer");
        check(
            "header:x-auth-token bearer",
            &[("authorization", "Bearer a b"), headers[1]],
            "",
            "header:x-auth-token two",
        );
    }

    #[test]
    fn a_source_given_twice_is_refused_wherever_it_stands_unless_the_values_are_one() {
        let every = "bearer header:x-auth-token cookie:sid query:t";
        let good = ("authorization", "Bearer one");
        for (headers, query, expected) in [
            (vec![good, good], "", "bearer one"),
            (vec![good, ("authorization", " Bearer one\t")], "", "bearer one"),
            (vec![good, ("authorization", "Bearer two")], "", "duplicate bearer"),
            (vec![good, ("authorization", "Basic x")], "", "duplicate bearer"),
            (vec![good, ("x-auth-token", "a"), ("x-auth-token", "b")], "", "duplicate header:x-auth-token"),
            (vec![("x-auth-token", ""), ("x-auth-token", "")], "", "-"),
            (vec![("x-auth-token", "a"), ("x-auth-token", " a")], "", "header:x-auth-token a"),
            (vec![("cookie", "sid=a; sid=a")], "", "cookie:sid a"),
            (vec![("cookie", "sid=a; x=1"), ("cookie", "sid=\"a\"; sid=a")], "", "cookie:sid a"),
            (vec![("cookie", "sid=a; sid=a; sid=b")], "", "duplicate cookie:sid"),
            (vec![good, ("cookie", "sid=a"), ("cookie", "x=1; sid=b")], "", "duplicate cookie:sid"),
            (vec![good], "t=1&t=2", "duplicate query:t"),
            (vec![("authorization", "Bearer a b"), ("cookie", "sid=a;sid=")], "", "duplicate cookie:sid"),
            // other names may repeat, and so may sources that are not configured
            (vec![good, ("cookie", "x=1; x=2"), ("cookie", "x=3")], "u=1&u=2", "bearer one"),
        ] {
            check(every, &headers, query, expected);
        }
        check("bearer", &[good, ("x-auth-token", "a"), ("x-auth-token", "b")], "", "bearer one");
    }

    #[test]
    fn a_duplicate_does_not_hide_behind_bytes_that_are_not_utf8() {
        let mut request = request(&[("cookie", "sid=a")], "");
        request.headers.push(("cookie", b"sid=\xff".to_vec()));
        assert_eq!(extracted("cookie:sid", &request), "duplicate cookie:sid");
        request.headers.remove(0);
        assert_eq!(extracted("cookie:sid", &request), "malformed cookie:sid");
    }

    #[test]
    fn only_the_head_bounds_a_token() {
        let token = "x".repeat(200_000);
        let request = request(&[("x-auth-token", &token)], "");
        assert_eq!(sources("header:x-auth-token").extract(&request).unwrap().unwrap().token.len(), 200_000);
    }

    #[test]
    fn a_cookie_bomb_is_one_pass() {
        // quadratic work on this would take minutes
        let bomb = "sid".repeat(200_000) + &"=".repeat(200_000) + &"; ;\"=\"; a".repeat(200_000);
        let request = request(&[("cookie", &bomb), ("cookie", "sid=abc")], "");
        assert_eq!(extracted("cookie:sid", &request), "cookie:sid abc");
    }

    #[test]
    fn offers_say_which_of_them_is_the_token() {
        use OfferRole::{Bearer, LastBearer, Protocol, Token};
        let request =
            request(&[("sec-websocket-protocol", "a,, bearer"), ("sec-websocket-protocol", "b, Bearer, bearer")], "");
        let roles: Vec<_> = offers(&request).map(|(offer, role)| (str::from_utf8(offer).unwrap(), role)).collect();
        let expected =
            [("a", Protocol), ("bearer", Bearer), ("b", Token), ("Bearer", Protocol), ("bearer", LastBearer)];
        assert_eq!(roles, expected);
    }

    #[test]
    fn what_was_looked_at_and_found_is_said_by_its_configured_name() {
        let sources = sources("bearer header:x-auth-token cookie:sid subprotocol");
        let headers = [("cookie", "sid=s3cret; sid=other"), ("x-auth-token", "s3cret"), ("authorization", "Basic x")];
        assert_eq!(sources.describe_present(&request(&headers, "")), "header:x-auth-token, cookie:sid");
        assert_eq!(sources.describe(), "bearer, header:x-auth-token, cookie:sid, subprotocol");
    }

    #[test]
    fn configured_query_names_are_redacted_too() {
        let sources = sources("bearer query:ticket");
        assert_eq!(sources.redact_query("ticket=a&token=b&room=1"), "ticket=[redacted]&token=[redacted]&room=1");
        assert_eq!(TokenSources::default().redact_query("ticket=a&jwt=b"), "ticket=a&jwt=[redacted]");
    }

    #[test]
    fn neither_debug_nor_errors_hold_the_token() {
        let request = request(&[("authorization", "Bearer hunter2"), ("x-auth-token", "hunter2 hunter2")], "");
        let (bearer, header) = (sources("bearer"), sources("header:x-auth-token"));
        let error = header.extract(&request).unwrap_err();
        let shown = format!("{:?} {error:?} {error}", bearer.extract(&request).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("x-auth-token"), "{shown}");
    }

    #[test]
    fn cookies_parse_leniently() {
        let parsed: Vec<_> = cookies(b"a=1; b=\"2\" ;c; d = \xff; =e; f=;g=\"h;i=\"").collect();
        assert_eq!(parsed, [("a", "1"), ("b", "2"), ("", "e"), ("f", ""), ("g", "\"h"), ("i", "\"")]);
    }
}
