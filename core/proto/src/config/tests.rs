use std::sync::Arc;

use super::*;
use crate::config_error::{ConfigError, ConfigErrorKind};
use crate::files::Disk;

const BASE: &str = r#""origins": ["https://a.example"], "auth": "none""#;

fn policy(more: &str) -> Result<Arc<Policy>, ConfigError> {
    Ok(PolicySet::compile(Options::from_json(&format!("{{{BASE}{more}}}"))?, &Disk)?.top)
}

fn error(json: &str) -> ConfigError {
    Options::from_json(json).and_then(|options| PolicySet::compile(options, &Disk)).expect_err(json)
}

#[test]
fn nothing_insecure_by_silence() {
    let cases = [
        (r"{}", "origins"),
        (r#"{"origins": ["https://a.example"]}"#, "auth"),
        (r#"{"auth": "none"}"#, "origins"),
        (r#"{"origins": ["https://a.example"], "auth": "none", "listen": "0.0.0.0:80"}"#, "tls"),
        (r#"{"origins": ["https://a.example"], "auth": "none", "listen": "[::]:80"}"#, "tls"),
        (r#"{"origins": ["https://a.example"], "auth": "none", "listen": "192.0.2.1:80"}"#, "tls"),
    ];
    for (json, option) in cases {
        let error = error(json);
        assert_eq!((error.kind, error.option.as_str()), (ConfigErrorKind::MissingOption, option), "{json}");
    }
}

#[test]
fn each_opt_out_is_named_for_what_it_is() {
    let any = r#"{"dangerously_allow_any_origin": true, "auth": "none"}"#;
    Options::from_json(any).and_then(|options| PolicySet::compile(options, &Disk)).unwrap();
    for more in [
        r#", "listen": "0.0.0.0:80", "dangerously_allow_plaintext": true"#,
        r#", "listen": "0.0.0.0:80", "trusted_proxies": ["10.0.0.0/8"]"#,
        r#", "listen": "0.0.0.0:443", "tls": {"cert": "c.pem", "key": "k.pem"}"#,
        r#", "listen": "[::1]:0""#,
        r#", "listen": "localhost:80""#,
        r#", "listen": "unix:/run/x.sock""#,
    ] {
        policy(more).expect(more);
    }
}

#[test]
fn an_unknown_option_is_named() {
    let cases = [
        (r#", "max_mesage_bytes": 1"#, "max_mesage_bytes"),
        (r#", "rate_limit": {"per_secnd": 1}"#, "rate_limit.per_secnd"),
        (r#", "events": {"say": {"shema": {}}}"#, "events.say.shema"),
        (r#", "tls": {"cert": "c", "key": "k", "ca": "x"}"#, "tls.ca"),
        (r#", "json_limits": {"depth": 3}"#, "json_limits.depth"),
    ];
    for (more, option) in cases {
        let error = policy(more).expect_err(more);
        assert_eq!((error.kind, error.option.as_str()), (ConfigErrorKind::UnknownOption, option), "{more}");
        assert!(error.message.contains('`'), "says what is accepted: {error}");
    }
    assert_eq!(error(r#"{"auth": {"oauth": {}}}"#).option, "auth.oauth");
}

#[test]
fn a_wrong_type_or_value_is_named() {
    let cases = [
        (r#", "threads": -1"#, "threads"),
        (r#", "threads": 256"#, "threads"),
        (r#", "max_inbox_bytes": 2147483649"#, "max_inbox_bytes"),
        (r#", "max_outbox_bytes": 4294967296"#, "max_outbox_bytes"),
        (r#", "drain_close_code": 1000"#, "drain_close_code"),
        (r#", "listen": "unix:/x", "unix_mode": "0o660""#, "unix_mode"),
        (r#", "listen": "unix:/x", "unix_mode": "1777""#, "unix_mode"),
        (r#", "listen": "unix:/x", "unix_mode": "+660""#, "unix_mode"),
        (r#", "listen": "unix:/x", "unix_mode": 660"#, "unix_mode"),
        (r#", "listen": "fd:x""#, "listen"),
        (r#", "listen": "*:80""#, "listen"),
        (r#", "listen": 8080"#, "listen"),
        (r#", "listen": "8080""#, "listen"),
        (r#", "listen": "a:b:80""#, "listen"),
        (r#", "listen": "unix:""#, "listen"),
        (r#", "listen": "unix:/run/a\u007fb""#, "listen"),
        (r#", "paths": []"#, "paths"),
        (r#", "paths": ["/ok", "x"]"#, "paths[1]"),
        (r#", "paths": ["/a?b"]"#, "paths[0]"),
        (r#", "paths": ["/a/../b"]"#, "paths[0]"),
        (r#", "paths": ["/b/."]"#, "paths[0]"),
        (r#", "hosts": ["a b"]"#, "hosts[0]"),
        (r#", "missing_origin": "maybe""#, "missing_origin"),
        (r#", "protocol": "xml""#, "protocol"),
        (r#", "on_violation": "ignore""#, "on_violation"),
        (r#", "subprotocols": ["a b"]"#, "subprotocols[0]"),
        (r#", "subprotocols": ["a", "a"]"#, "subprotocols[1]"),
        (r#", "token_sources": ["body"]"#, "token_sources[0]"),
        (r#", "max_message_bytes": 0"#, "max_message_bytes"),
        (r#", "max_message_bytes": "64k""#, "max_message_bytes"),
        (r#", "max_head_bytes": 100"#, "max_head_bytes"),
        (r#", "max_connections": 0"#, "max_connections"),
        (r#", "rate_limit": {"per_second": 0}"#, "rate_limit.per_second"),
        (r#", "rate_limit": {"burst": 0.5}"#, "rate_limit.burst"),
        (r#", "rate_limit": {"bytes_per_second": -1}"#, "rate_limit.bytes_per_second"),
        (r#", "rate_limit": {"key": "planet"}"#, "rate_limit.key"),
        (r#", "control_rate_limit": {"burst": 0}"#, "control_rate_limit.burst"),
        (r#", "handshakes_per_ip": {"per_second": null}"#, "handshakes_per_ip.per_second"),
        (r#", "json_limits": {"max_depth": 0}"#, "json_limits.max_depth"),
        (r#", "events": {"say": {"cost": -0.5}}"#, "events.say.cost"),
        (r#", "events": {"say": {"schema": {"type": "strin"}}}"#, "events.say.schema"),
        (r#", "events": {"say": {"schema": {"$ref": "https://evil.example/x"}}}"#, "events.say.schema"),
        (r#", "trusted_proxies": ["10.0.0.0/33"]"#, "trusted_proxies[0]"),
        (r#", "server_header": "a\r\nb""#, "server_header"),
        (r#", "tls": {"cert": "c.pem"}"#, "tls"),
        (r#", "tls": {"cert": "c", "key": "k", "min_version": "1.0"}"#, "tls.min_version"),
    ];
    for (more, option) in cases {
        let error = policy(more).expect_err(more);
        assert_eq!((error.kind, error.option.as_str()), (ConfigErrorKind::InvalidOption, option), "{more}: {error}");
    }
    assert_eq!(error(r#"{"origins": ["https://a.example/path"], "auth": "none"}"#).option, "origins[0]");
    assert_eq!(error(r#"{"origins": [], "auth": "none"}"#).option, "origins");
    assert_eq!(error(r#"{"origins": ["https://a.example"], "auth": "maybe"}"#).option, "auth");
    assert_eq!(error(r#"{"origins": ["https://a.example"], "auth": {"tokens": []}}"#).option, "auth.tokens");
    for broken in ["[", r#"{"orig]}"#, r#"{"rate_limit":{"x]}"#, "[]", r#"["0.0.0.0:1"]"#, r#"[["a"]]"#, "7", ""] {
        assert_eq!(error(broken).option, "options", "{broken}");
    }
    let lists = [
        (r#", "rate_limit": [1, 2]"#, "rate_limit"),
        (r#", "tls": ["a", "b"]"#, "tls"),
        (r#", "json_limits": [3]"#, "json_limits"),
        (r#", "events": {"say": [{}, 3]}"#, "events.say"),
    ];
    for (more, option) in lists {
        assert_eq!(policy(more).expect_err(more).option, option);
    }
    let token = error(r#"{"origins": ["https://a.example"], "auth": {"tokens": [["x", null, "u"]]}}"#);
    assert_eq!(token.option, "auth.tokens[0]");
    for (more, option) in [
        (r#", "auth": "none""#, "auth"),
        (r#", "events": {"say": {"schema": {"type": "string"}}, "say": {}}"#, "events.say"),
        (r#", "events": {"say": {"schema": {"maxLength": 3, "maxLength": 30}}}"#, "events.say.schema.maxLength"),
        (r#", "rate_limit": {"burst": 3, "burst": 4}"#, "rate_limit.burst"),
        (r#", "tls": {"cert": "c", "key": "k", "cert": "d"}"#, "tls.cert"),
    ] {
        let error = policy(more).expect_err(more);
        assert_eq!((error.option.as_str(), error.message.as_str()), (option, "is given twice"), "{more}");
    }
    let keys = error(r#"{"auth": {"jwt": {"algorithms": [], "keys": {"Hunter2": 1, "Hunter2": 2}}}}"#);
    assert_eq!(keys.to_string(), "auth.jwt.keys: has a name twice");
    assert_eq!(error(&format!("{{{BASE}}} {{}}")).option, "options");
}

#[test]
fn contradictions_are_refused() {
    let cases = [
        (r#", "dangerously_allow_any_origin": true"#, "dangerously_allow_any_origin"),
        (r#", "proxy_protocol": true"#, "proxy_protocol"),
        (r#", "events": {"e": {"cost": 26}}, "rate_limit": {"burst": 5, "queue": 20}"#, "events.e.cost"),
        (r#", "ping_interval_ms": 0"#, "idle_timeout_ms"),
        (r#", "ping_interval_ms": 0, "idle_timeout_ms": 1"#, "idle_timeout_ms"),
        (r#", "ping_interval_ms": 5000, "idle_timeout_ms": 1000"#, "idle_timeout_ms"),
        (r#", "ping_interval_ms": 44001"#, "idle_timeout_ms"),
        (r#", "ping_interval_ms": 5000, "idle_timeout_ms": 5999"#, "idle_timeout_ms"),
        (r#", "unix_mode": "0660""#, "unix_mode"),
        (r#", "listen": "fd:3", "unix_mode": "0660""#, "unix_mode"),
        (r#", "admin_listen": "127.0.0.1:0", "unix_mode": "0660""#, "unix_mode"),
        (r#", "listen": "unix:/run/x.sock", "reuse_port": true"#, "reuse_port"),
        (r#", "listen": "fd:3", "reuse_port": true"#, "reuse_port"),
        (r#", "protocol": "raw", "events": {"say": {}}"#, "events"),
        (r#", "report_handshakes": true"#, "report_handshakes"),
        (r#", "report_handshakes": true, "on_violation": "enforce""#, "report_handshakes"),
        (r#", "events": {"e": {"cost": 9}}, "rate_limit": {"burst": 5, "queue": 0}"#, "events.e.cost"),
        (r#", "events": {"e": {"cost": 9.5}}, "rate_limit": {"burst": 5, "queue": 4}"#, "events.e.cost"),
    ];
    for (more, option) in cases {
        let error = policy(more).expect_err(more);
        assert_eq!((error.kind, error.option.as_str()), (ConfigErrorKind::Contradiction, option), "{more}");
    }
    for more in [
        r#", "ping_interval_ms": 0, "idle_timeout_ms": 0"#,
        r#", "idle_timeout_ms": 0"#,
        r#", "ping_interval_ms": 5000, "idle_timeout_ms": 6000"#,
        r#", "ping_interval_ms": 44000"#,
        r#", "listen": "unix:/run/x.sock", "unix_mode": "0660""#,
        r#", "listen": "unix:/run/x.sock", "unix_mode": "600""#,
        r#", "admin_listen": "unix:/run/x.sock", "unix_mode": "600""#,
    ] {
        policy(more).expect(more);
    }
    let two_ways = error(r#"{"origins": ["https://a.example"], "auth": {"tokens": [], "jwt": {}}}"#);
    assert_eq!(two_ways.option, "auth");
}

#[test]
fn proxies_that_nobody_could_be_are_refused_where_the_server_listens() {
    for more in [
        r#", "listen": "unix:/run/x.sock", "trusted_proxies": ["127.0.0.1"]"#,
        r#", "trusted_proxies": ["unix"]"#,
        r#", "listen": "0.0.0.0:80", "trusted_proxies": ["unix"]"#,
    ] {
        let error = policy(more).unwrap().check_listening().expect_err(more);
        assert_eq!((error.kind, &*error.option), (ConfigErrorKind::Contradiction, "trusted_proxies"), "{more}");
    }
    for more in [
        r#", "listen": "unix:/run/x.sock", "trusted_proxies": ["unix", "10.0.0.0/8"]"#,
        r#", "trusted_proxies": ["unix", "10.0.0.0/8"]"#,
        r#", "listen": "fd:3", "trusted_proxies": ["unix"]"#,
        "",
    ] {
        policy(more).unwrap().check_listening().expect(more);
    }
}

#[test]
fn the_policy_line_names_every_opt_out_and_no_secret() {
    let json = r#"{"dangerously_allow_any_origin": true, "auth": {"tokens": [{"token": "hunter2", "user": "a"}]},
        "dangerously_allow_plaintext": true, "rate_limit": null, "listen": "127.0.0.1:0",
        "admin_listen": "0.0.0.0:9464", "dangerously_public_admin": true,
        "cluster": {"url": "rediss://hunter2:hunter2@redis.example:6380", "on_outage": "closed", "user_limits": false}}"#;
    let line = Options::from_json(json).and_then(|options| PolicySet::compile(options, &Disk)).unwrap().to_string();
    for part in [
        "dangerously_allow_any_origin",
        "dangerously_allow_plaintext",
        "auth=tokens",
        "rate_limit=off",
        "tls=off",
        "missing_origin=deny",
        "short_tokens=1",
        "admin_listen=0.0.0.0:9464 (dangerously_public_admin)",
        "cluster=default (rediss://redis.example:6380) on_outage=closed user_limits=off",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("hunter2") && !line.contains('\n'));
}

#[test]
fn a_cluster_is_named_by_its_url_and_its_name() {
    for (cluster, option) in [
        ("{}", "cluster"),
        (r#"{"url": "http://hunter2@host"}"#, "cluster.url"),
        (r#"{"url": "redis://h", "name": ""}"#, "cluster.name"),
        (r#"{"url": "redis://h", "name": "a{b}"}"#, "cluster.name"),
        (r#"{"url": "redis://h", "lease_ms": 1999}"#, "cluster.lease_ms"),
        (r#"{"url": "redis://h", "on_outage": "open"}"#, "cluster.on_outage"),
        (r#"{"url": "redis://h", "user_limits": 1}"#, "cluster.user_limits"),
    ] {
        let error = policy(&format!(r#", "cluster": {cluster}"#)).expect_err(cluster);
        assert_eq!(error.option, option, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let long = format!(r#", "cluster": {{"url": "redis://h", "name": "{}"}}"#, "n".repeat(65));
    assert_eq!(policy(&long).unwrap_err().option, "cluster.name");
    let cluster =
        policy(r#", "cluster": {"url": "redis://:hunter2@h/3", "name": "A-z.0_9"}"#).unwrap().cluster.clone().unwrap();
    assert_eq!((&*cluster.name, cluster.lease_ms, cluster.user_limits), ("A-z.0_9", 10_000, true));
    assert!(!format!("{cluster:?} {cluster}").contains("hunter2"));
    assert!(policy("").unwrap().cluster.is_none());
    let in_route = error(&format!(r#"{{{BASE}, "routes": {{"/a": {{"cluster": {{"url": "redis://h"}}}}}}}}"#));
    assert_eq!(in_route.option, "routes./a.cluster");
}
