//! A credential is found where a naive reader finds it, and never when it is given twice.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::setting;
use wsguard_proto::auth::{CredentialError, RequestView, TokenSource, TokenSources, cookies};

static SOURCES: LazyLock<[TokenSources; 6]> = LazyLock::new(|| {
    [
        "cookie:session",
        "bearer",
        "header:x-auth-token",
        "subprotocol",
        "query:ticket",
        "bearer cookie:session query:ticket",
    ]
    .map(|list| TokenSources::parse(&list.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap())
});

/// The header that each of them reads.
const HEADERS: [&str; 6] = ["cookie", "authorization", "x-auth-token", "sec-websocket-protocol", "", "cookie"];

struct Lines<'i> {
    name: &'static str,
    lines: Vec<&'i [u8]>,
    query: Option<&'i str>,
}

impl RequestView for Lines<'_> {
    fn header_values(&self, lower_case_name: &str) -> impl Iterator<Item = &[u8]> {
        let named = lower_case_name == self.name;
        self.lines.iter().copied().filter(move |_| named)
    }

    fn query(&self) -> Option<&str> {
        self.query
    }
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let kept = |byte: &u8| *byte != b' ' && *byte != b'\t';
    let Some(start) = bytes.iter().position(kept) else { return &[] };
    &bytes[start..=bytes.iter().rposition(kept).unwrap()]
}

/// Every value that `name` has in these `Cookie` headers.
fn naive_cookies<'i>(lines: &[&'i [u8]], name: &[u8]) -> Vec<&'i [u8]> {
    let mut found = Vec::new();
    for line in lines {
        for pair in line.split(|byte| *byte == b';') {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            if let (Some(key), Some(value)) = (halves.next(), halves.next())
                && trimmed(key) == name
            {
                let value = trimmed(value);
                let quoted = value.len() >= 2 && value[0] == b'"' && value[value.len() - 1] == b'"';
                found.push(if quoted { &value[1..value.len() - 1] } else { value });
            }
        }
    }
    found
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let set = usize::from(set) % SOURCES.len();
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    let query = std::str::from_utf8(lines[0]).ok();
    let request = Lines { name: HEADERS[set], lines: lines.clone(), query };
    let found = SOURCES[set].extract(&request);
    match &found {
        Ok(None) => {}
        Ok(Some(credential)) => {
            let token = credential.token.as_bytes();
            assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
            let from_query = matches!(credential.source, TokenSource::Query(_));
            assert!(from_query || lines.iter().any(|line| line.windows(token.len()).any(|window| window == token)));
            assert!(token.len() < 11 || !format!("{credential:?}").contains(&*credential.token));
            assert!(!from_query || shows_no_value(query.unwrap()));
        }
        Err(error) => assert!(error.to_string().len() < 100),
    }
    if set == 0 {
        check_cookie(&lines, found.map(|credential| credential.map(|credential| credential.token.into_owned())));
    }
    for line in &lines {
        for (name, value) in cookies(line) {
            assert!(naive_cookies(&[line], name.as_bytes()).contains(&value.as_bytes()));
        }
    }
});

fn check_cookie(lines: &[&[u8]], found: Result<Option<String>, CredentialError>) {
    // Twice with one value is one.
    let mut values = naive_cookies(lines, b"session");
    values.dedup();
    match (values[..].as_ref(), found) {
        ([_, _, ..], found) => assert!(matches!(found, Err(CredentialError::Duplicate(_)))),
        ([], found) => assert_eq!(found, Ok(None)),
        ([value], Ok(None)) => assert!(trimmed(value).is_empty()),
        ([value], Ok(Some(token))) => assert_eq!(token.as_bytes(), trimmed(value)),
        ([value], Err(CredentialError::Malformed(_))) => {
            let value = trimmed(value);
            assert!(!value.iter().all(u8::is_ascii_graphic));
        }
        ([_], Err(CredentialError::Duplicate(_))) => panic!("it is there once"),
    }
}

/// THREATS H20: whatever names the parameter, its value is not shown.
fn shows_no_value(query: &str) -> bool {
    let shown = SOURCES[4].redact_query(query);
    let plain = shown.split('&').filter_map(|pair| pair.split_once('='));
    plain.filter(|(name, _)| *name == "ticket").all(|(_, value)| value == "[redacted]")
}
