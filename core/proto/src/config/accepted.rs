//! What each option accepts, in the words of an error: one table, for every way in which a value can be wrong.

use super::ranges;

/// The four forms of `auth`.
pub(super) const AUTH: &str = r#""callback", "none", {"tokens": [{"token": "…", "user": "…"}]} or {"jwt": {…}}"#;
const BURST: &str = r#"an object such as {"per_second": 10, "burst": 20}, or null to disable it"#;
const PEM: &str = "a string: a PEM text, or the path of a PEM file";
const RATE: &str = "a number above 0";
const YES_OR_NO: &str = "true or false";
const TEXT: &str = "a string";

/// The options by name, `*` for a name that the application chooses, `[]` for an entry of a list.
const WORDS: &[(&str, &str)] = &[
    ("options", "an object that holds at least `origins` and `auth`"),
    ("listen", r#"a string: "127.0.0.1:8080", "unix:/run/app.sock" or "fd:3""#),
    ("unix_mode", r#"permission bits as a string, e.g. "0660""#),
    ("reuse_port", YES_OR_NO),
    ("paths", r#"a list, e.g. ["/chat"], or null for every path"#),
    ("paths[]", r#"a string, e.g. "/chat""#),
    ("origins", r#"a list, e.g. ["https://app.example.com"]"#),
    ("origins[]", r#"a string, e.g. "https://app.example.com""#),
    ("dangerously_allow_any_origin", YES_OR_NO),
    ("missing_origin", r#""deny" or "allow""#),
    ("hosts", r#"a list, e.g. ["app.example.com"], or null for any"#),
    ("hosts[]", r#"a string, e.g. "app.example.com""#),
    ("auth", AUTH),
    ("auth.tokens", r#"a list, e.g. [{"token": "…", "user": "alice"}]"#),
    ("auth.tokens[]", r#"an object such as {"token": "…", "user": "alice"}"#),
    ("auth.tokens[].token", TEXT),
    ("auth.tokens[].sha256", "a string of 64 hexadecimal digits"),
    ("auth.tokens[].user", "a string of 1 to 256 bytes"),
    ("auth.jwt", r#"an object such as {"algorithms": ["ES256"], "key": "…"}"#),
    ("auth.jwt.algorithms", r#"a list, e.g. ["ES256"]"#),
    ("auth.jwt.algorithms[]", r#"a string, e.g. "ES256""#),
    ("auth.jwt.issuer", "a string or a list of strings"),
    ("auth.jwt.audience", "a string or a list of strings"),
    ("auth.jwt.leeway_s", "a whole number of seconds from 0 to 3600"),
    ("auth.jwt.user_claim", "a string: the name of a claim"),
    ("token_sources", r#"a list, e.g. ["bearer", "cookie:session"]"#),
    ("token_sources[]", r#"a string, e.g. "bearer""#),
    ("subprotocols", r#"a list, e.g. ["chat.v1"]"#),
    ("subprotocols[]", r#"a string, e.g. "chat.v1""#),
    ("protocol", r#""json" or "raw""#),
    ("events", r#"an object from names to events, e.g. {"say": {"schema": {"type": "string"}}}"#),
    ("events.*", r#"an object such as {"schema": {"type": "string"}, "cost": 1}"#),
    ("events.*.cost", "a number, e.g. 1"),
    ("json_limits", r#"an object such as {"max_depth": 32, "max_keys": 256}"#),
    ("json_limits.max_depth", "a whole number from 1 to 128"),
    ("json_limits.max_keys", "a whole number from 1 to 65536"),
    ("rate_limit", r#"an object such as {"per_second": 20, "burst": 40}, or null to disable it"#),
    ("rate_limit.per_second", RATE),
    ("rate_limit.burst", "a number from 1"),
    ("rate_limit.queue", "a whole number from 0 to 4294967295"),
    ("rate_limit.bytes_per_second", "a number from 1, or null to disable it"),
    ("rate_limit.key", r#""user", "ip" or "connection""#),
    ("control_rate_limit", BURST),
    ("control_rate_limit.per_second", RATE),
    ("control_rate_limit.burst", "a number from 1"),
    ("handshakes_per_ip", BURST),
    ("handshakes_per_ip.per_second", RATE),
    ("handshakes_per_ip.burst", "a number from 1"),
    ("drain_close_code", "1012 or 1001"),
    ("tls", r#"an object such as {"cert": "cert.pem", "key": "key.pem"}, or null for none"#),
    ("tls.cert", PEM),
    ("tls.key", PEM),
    ("tls.client_ca", "a string: a PEM text, the path of a PEM file, or null for none"),
    ("tls.min_version", r#""1.2" or "1.3""#),
    ("dangerously_allow_plaintext", YES_OR_NO),
    ("trusted_proxies", r#"a list, e.g. ["10.0.0.0/8"]"#),
    ("trusted_proxies[]", r#"a string, e.g. "10.0.0.0/8""#),
    ("proxy_protocol", YES_OR_NO),
    ("on_violation", r#""enforce" or "report""#),
    ("server_header", "a string of 1 to 256 printable ASCII characters, or null for none"),
];

/// What an option of this name accepts; `None`: no words are known for it.
pub(super) fn words(kind: &str) -> Option<String> {
    let listed = WORDS.iter().find(|(name, _)| *name == kind).map(|(_, words)| (*words).to_owned());
    listed.or_else(|| ranges::of(kind).map(|range| range.to_string()))
}

/// Whether an option somewhere has this name.
pub(super) fn is_name(name: &str) -> bool {
    WORDS.iter().any(|(path, _)| path.split('.').any(|part| part.trim_end_matches("[]") == name))
        || ranges::of(name).is_some()
}

/// Every path that has words, for the tests.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(path, _)| *path)
}
