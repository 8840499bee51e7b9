//! A request head gets the same verdict however it is cut; what is accepted has all that RFC 6455 demands, as a naive
//! reader sees it; and every answer is one well-formed response.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::{pieces, setting};
use wsguard_proto::auth::{Identity, RequestView};
use wsguard_proto::config::{Options, PolicySet, Resolved};
use wsguard_proto::files::NoFiles;
use wsguard_proto::handshake::{self, Decision, Head, HeadScanner, MAX_HEADERS, Refusal, ResponseHeaders, Subprotocol};
use wsguard_proto::verdict::Code;

const ORIGINS: [&str; 2] = ["https://app.example.com", "https://*.example.com"];

fn policies(more: &str) -> PolicySet {
    let json = format!(
        r#"{{"origins": ["{}", "{}"], "subprotocols": ["chat", "superchat"], {more}}}"#,
        ORIGINS[0], ORIGINS[1]
    );
    PolicySet::compile(Options::from_json(&json).unwrap(), &NoFiles).unwrap()
}

static SETS: LazyLock<[PolicySet; 4]> = LazyLock::new(|| {
    let tokens = r#""auth": {"tokens": [{"token": "good", "user": "alice"}]}"#;
    [
        policies(tokens),
        policies(&format!(
            r#"{tokens}, "token_sources": ["cookie:session", "query:ticket", "subprotocol", "header:x-t"]"#
        )),
        policies(r#""auth": "none", "hosts": ["app.example.com"], "paths": ["/chat"], "max_head_bytes": 1024"#),
        policies(r#""auth": "callback", "missing_origin": "allow", "server_header": "wsguard""#),
    ]
});

/// What becomes of the bytes so far.
#[derive(Debug, PartialEq)]
enum Outcome {
    Incomplete,
    Refused(Refusal),
    Health,
    Accepted { head_len: usize, user: Option<String>, asks: bool, subprotocol: Option<String> },
}

fn judge(set: &PolicySet, bytes: &[u8], pieces: &[usize]) -> Outcome {
    let (mut scanner, mut received) = (HeadScanner::default(), 0);
    for piece in pieces {
        received += piece;
        match scanner.scan(&bytes[..received], set.top.max_head_bytes) {
            Ok(None) => {}
            Ok(Some(len)) => {
                assert!(len <= received && len <= set.top.max_head_bytes);
                return answer(set, &bytes[..len]).unwrap_or_else(Outcome::Refused);
            }
            Err(refusal) => return Outcome::Refused(refusal),
        }
    }
    Outcome::Incomplete
}

/// As the driver does it.
fn answer(set: &PolicySet, head: &[u8]) -> Result<Outcome, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = Head::parse(head, &mut headers)?;
    if parsed.health_check().is_some() {
        assert!(!parsed.has_body() && head.windows(8).any(|window| window == b"/healthz"));
        return Ok(Outcome::Health);
    }
    let request = parsed.request()?;
    let Resolved { policy, params, .. } = handshake::resolve(set, &request)?;
    let policy = &*policy;
    let _ = request.snapshot(None, params, None, None, None).cookies().count();
    let _ = policy.token_sources.redact_query(request.query().unwrap_or_default());
    let key = handshake::vet(policy, &request, &mut Vec::new())?;
    let (identity, asks) = match handshake::authenticate(policy, &request, 1_700_000_000, &mut Vec::new())? {
        Decision::Granted(granted) => (Some(granted.identity), false),
        Decision::KeyUnknown { refusal, .. } => return Err(refusal),
        Decision::Ask { token } => {
            let said = |token: String| head.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(token.is_none_or(said), "a token from nowhere");
            (None, true)
        }
    };
    let subprotocol = match handshake::choose_subprotocol(policy, &request) {
        Subprotocol::Chosen(name) => Some(name),
        Subprotocol::NotOffered | Subprotocol::NoneKnown => None,
    };
    let mut out = Vec::new();
    handshake::accepted(&mut out, policy, key, subprotocol, None, &ResponseHeaders::default());
    assert_eq!(check_response(&out), (101, 0));
    Ok(Outcome::Accepted {
        head_len: head.len(),
        user: identity.and_then(|Identity { user, .. }| user),
        asks,
        subprotocol: subprotocol.map(str::to_owned),
    })
}

/// The status, and how many bytes of body follow.
fn check_response(out: &[u8]) -> (u16, usize) {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = response.parse(out).expect("a response") else { panic!("half a response") };
    let claimed = response.headers.iter().find(|header| header.name == "Content-Length");
    let claimed = claimed.map_or(0, |header| std::str::from_utf8(header.value).unwrap().parse().unwrap());
    assert_eq!(out.len() - len, claimed, "body");
    assert!(
        response.code == Some(101) || response.headers.iter().any(|h| h.name == "Connection" && h.value == b"close")
    );
    (response.code.unwrap(), claimed)
}

/// The head by lines and colons, sharing nothing with the parser.
struct Naive<'h> {
    target: &'h str,
    headers: Vec<(String, &'h [u8])>,
}

impl<'h> Naive<'h> {
    fn read(head: &'h [u8]) -> Self {
        let mut lines: Vec<&[u8]> = Vec::new();
        let mut rest = head;
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        assert!(rest.is_empty(), "does not end in CRLF");
        assert_eq!(lines.pop(), Some(&b""[..]), "does not end in an empty line");
        for line in &lines {
            assert!(!line.is_empty() && line.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
        }
        let request_line = std::str::from_utf8(lines[0]).expect("a request line");
        let words: Vec<&str> = request_line.split(' ').collect();
        assert_eq!((words.len(), words[0], words[2]), (3, "GET", "HTTP/1.1"));
        let header = |line: &&'h [u8]| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            let name = std::str::from_utf8(&line[..colon]).expect("an ASCII name");
            assert!(
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
            );
            (name.to_ascii_lowercase(), line[colon + 1..].trim_ascii())
        };
        Self { target: words[1], headers: lines[1..].iter().map(header).collect() }
    }

    fn all(&self, name: &str) -> Vec<&'h [u8]> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
    }

    fn only(&self, name: &str) -> Option<&'h [u8]> {
        let all = self.all(name);
        assert!(all.len() <= 1, "two {name} headers");
        all.first().copied()
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        let elements = self.all(name).into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        elements.map(|element| String::from_utf8_lossy(element).trim().to_lowercase()).any(|element| element == token)
    }
}

fn check_accepted(head: &[u8], setting: usize, user: Option<&str>, subprotocol: Option<&str>) {
    let naive = Naive::read(head);
    assert!(naive.headers.len() <= MAX_HEADERS);
    assert!(naive.target.len() <= 8192 && naive.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    let host = String::from_utf8(naive.only("host").expect("Host").to_vec()).unwrap().to_ascii_lowercase();
    if !naive.target.starts_with('/') {
        let (_, rest) = naive.target.split_once("://").expect("an absolute target");
        let authority = rest.split(['/', '?']).next().unwrap().to_ascii_lowercase();
        let is_secure = ["https", "wss"].iter().any(|scheme| naive.target.to_ascii_lowercase().starts_with(scheme));
        let default_port = if is_secure { ":443" } else { ":80" };
        let portless = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_owned();
        let same = |text: &str| portless(text).replacen(".:", ":", 1).trim_end_matches('.').to_owned();
        assert!(host.starts_with('[') || same(&authority) == same(&host), "{authority} is not {host}");
    }
    let path = naive.target.split('?').next().unwrap_or_default();
    assert!(setting != 2 || path.ends_with("/chat"), "{path} is not served");
    assert!(setting != 2 || host.starts_with("app.example.com"));
    assert!(naive.lists("upgrade", "websocket") && naive.lists("connection", "upgrade"));
    assert_eq!(naive.only("sec-websocket-version"), Some(&b"13"[..]));
    check_key(naive.only("sec-websocket-key").expect("a key"));
    assert!(naive.all("transfer-encoding").is_empty());
    assert!(naive.only("content-length").is_none_or(|value| value.iter().all(|byte| *byte == b'0')));
    match naive.only("origin") {
        None => assert_eq!(setting, 3, "no Origin"),
        Some(origin) => {
            let origin = std::str::from_utf8(origin).unwrap().to_ascii_lowercase();
            let host = origin.strip_prefix("https://").expect("https");
            let host = host.strip_suffix(":443").unwrap_or(host);
            let label = host.strip_suffix(".example.com").expect("a subdomain");
            assert!(
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
                "{origin}"
            );
        }
    }
    if setting < 2 {
        assert_eq!(user, Some("alice"));
        let said = |value: &&[u8]| value.windows(4).any(|four| four == b"good");
        let names: &[&str] = if setting == 0 {
            &["authorization", "x-auth-token"]
        } else {
            &["cookie", "sec-websocket-protocol", "x-t"]
        };
        let in_query = setting == 1 && naive.target.contains('?');
        assert!(in_query || names.iter().flat_map(|name| naive.all(name)).any(|value| said(&value)), "no credential");
    }
    if let Some(name) = subprotocol {
        let offers =
            naive.all("sec-websocket-protocol").into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        assert!(offers.map(<[u8]>::trim_ascii).any(|offer| offer == name.as_bytes()), "{name} was not offered");
    }
}

/// Base64 of 16 bytes, by decoding.
fn check_key(key: &[u8]) {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(key.len(), 24);
    let digits = key.strip_suffix(b"==").expect("padding");
    let value = digits.iter().fold(Vec::new(), |mut bits, digit| {
        let value = alphabet.iter().position(|known| known == digit).expect("a digit");
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
        bits
    });
    assert_eq!(value.len(), 16 * 8 + 4);
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let Some((seed, bytes)) = setting(rest) else { return };
    let set = usize::from(set) % SETS.len();
    let policies = &SETS[set];
    let whole = judge(policies, bytes, &[bytes.len()]);
    // A request line this long is refused as such before it is whole, else for the first thing that is wrong with it.
    let long_line = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len()) > 8192;
    for seed in [0, u64::from(seed) + 1] {
        let cut = judge(policies, bytes, &pieces(bytes.len(), seed));
        let both_refuse = matches!((&whole, &cut), (Outcome::Refused(_), Outcome::Refused(_)));
        assert!(whole == cut || long_line && both_refuse, "whole {whole:?}, cut {cut:?}");
    }
    match whole {
        Outcome::Incomplete => assert!(bytes.len() < policies.top.max_head_bytes),
        Outcome::Health => {}
        Outcome::Refused(refusal) => {
            let mut out = Vec::new();
            handshake::refused(&mut out, &policies.top, &refusal, false);
            assert_eq!(check_response(&out).0, refusal.status);
            assert!(refusal.status == refusal.code.http_status() || refusal.code == Code::HeadTooLarge);
        }
        Outcome::Accepted { head_len, user, asks, subprotocol } => {
            assert_eq!(asks, set == 3);
            check_accepted(&bytes[..head_len], set, user.as_deref(), subprotocol.as_deref());
        }
    }
});
