use serde_json::{Value, json};
use wsguard::binding::{Options, compile, examine_tls};
use wsguard::options::TlsOptions;

use super::super::facts::OpenFile;
use super::*;

const GOOD_TOKEN_DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A policy that nothing can be said against.
fn good() -> Value {
    json!({
        "origins": ["https://app.example"],
        "hosts": ["app.example"],
        "auth": {"tokens": [{"sha256": GOOD_TOKEN_DIGEST, "user": "alice"}]},
        "events": {"say": {"schema": {"type": "string"}}},
    })
}

/// The good policy with these options over it. It has to be one that starts: nothing else is ever warned of.
fn with(more: &Value) -> Value {
    let mut policy = good();
    for (name, value) in more.as_object().unwrap() {
        policy[name] = value.clone();
        if name == "dangerously_allow_any_origin" {
            policy.as_object_mut().unwrap().remove("origins");
        }
        if name == "protocol" {
            policy.as_object_mut().unwrap().remove("events");
        }
    }
    compile(Options::from_value(&policy).unwrap()).unwrap_or_else(|error| panic!("{error}: {policy}"));
    policy
}

fn warned(policy: &Value, facts: &Facts) -> Vec<(Severity, &'static str, String)> {
    let found = of(policy.as_object().unwrap(), facts);
    assert!(found.iter().all(|finding| !finding.what.is_empty() && !finding.instead.is_empty()));
    found.into_iter().map(|finding| (finding.severity, finding.id, finding.option)).collect()
}

fn one(more: &Value) -> (Severity, &'static str, String) {
    let found = warned(&with(more), &Facts::default());
    assert_eq!(found.len(), 1, "{more}: {found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_good_policy_is_not_warned_of() {
    assert_eq!(warned(&good(), &Facts { memory_bytes: Some(1 << 30), ..Facts::default() }), []);
}

/// With routes and no `paths`, nobody is served by what every route states itself.
#[test]
fn a_top_that_no_path_uses_is_not_judged() {
    let own = json!({"auth": {"tokens": [{"sha256": GOOD_TOKEN_DIGEST, "user": "alice"}]}});
    let about_top = |more: &Value| {
        let mut policy = json!({"auth": "none", "routes": {"/a": own, "/b": own}});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        warned(&with(&policy), &Facts::default()).iter().any(|(_, id, _)| *id == "no_authentication")
    };
    assert!(!about_top(&json!({})));
    assert!(about_top(&json!({"paths": ["/"]})) && about_top(&json!({"routes": {"/a": own, "/b": {}}})));
    assert!(about_top(&json!({"routes": {}})));
    assert!(!about_top(&json!({"paths": ["/a"]})));
    // What routes have from it is judged by what they state beside it, and said once.
    let policy = with(&json!({"auth": "none", "dangerously_allow_any_origin": true, "max_connections": 100,
                              "routes": {"/a": own, "/b": own}}));
    let found = warned(&policy, &Facts::default());
    let said = [
        ("any_origin", Medium, "dangerously_allow_any_origin"),
        ("address_takes_all", Medium, "max_connections_per_ip"),
    ];
    for (id, severity, option) in said {
        let found: Vec<_> = found.iter().filter(|(_, other, _)| *other == id).collect();
        assert_eq!(found, [&(severity, id, option.to_owned())]);
    }
    let any = json!({"auth": own["auth"], "dangerously_allow_any_origin": true});
    let policy = with(&json!({"auth": "none", "origins": ["null"], "routes": {"/a": any}}));
    assert!(
        warned(&policy, &Facts::default()).iter().all(|(severity, id, _)| (*severity, *id) != (High, "null_origin"))
    );
    let own = json!({"auth": own["auth"], "max_connections_per_ip": 100});
    let policy = with(&json!({"auth": "none", "max_connections": 1000, "routes": {"/a": own}}));
    assert!(warned(&policy, &Facts::default()).iter().all(|(_, id, _)| *id != "address_takes_all"));
}

/// Each path by itself, as a policy of its own, has what the whole policy is warned of: nothing is missed, and nothing invented by
/// what no path has together.
#[test]
fn a_policy_is_as_weak_as_the_weakest_of_its_paths() {
    let own = json!({"tokens": [{"sha256": GOOD_TOKEN_DIGEST, "user": "alice"}]});
    let values = [
        ("auth", vec![own, json!("none"), json!("callback")]),
        ("origins", vec![json!(["https://app.example"]), json!(["null"]), json!(["http://app.example"])]),
        ("dangerously_allow_any_origin", vec![json!(true), json!(false)]),
        ("missing_origin", vec![json!("allow"), json!("deny")]),
        ("hosts", vec![json!(["app.example"]), json!(null)]),
        ("token_sources", vec![json!(["bearer"]), json!(["cookie:s"]), json!(["query:t"])]),
        ("rate_limit", vec![json!(null), json!({"per_second": 5, "burst": 5})]),
        ("max_message_bytes", vec![json!(1000), json!(20_000_000)]),
        ("max_connections_per_ip", vec![json!(3), json!(5000)]),
        ("handshake_timeout_ms", vec![json!(1000), json!(70_000)]),
        ("idle_timeout_ms", vec![json!(0), json!(45_000)]),
        ("on_violation", vec![json!("report"), json!("enforce")]),
        ("protocol", vec![json!("raw")]),
    ];
    let mut seed = 7_u64;
    let mut roll = |sides: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % sides
    };
    for _ in 0..5000 {
        let mut draw = |often: usize| {
            let mut drawn = Map::new();
            for (name, values) in &values {
                if roll(often) == 0 {
                    drawn.insert((*name).to_owned(), values[roll(values.len())].clone());
                }
            }
            drawn
        };
        let mut top = draw(2);
        top.insert("max_connections".to_owned(), json!(1000));
        let routes: Map<_, _> =
            ["/a", "/b"].into_iter().map(|path| (path.to_owned(), Value::Object(draw(3)))).collect();
        let mut paths: Vec<_> = routes.values().map(|route| over(&top, route.as_object().unwrap())).collect();
        let mut policy = top.clone();
        policy.insert("routes".to_owned(), routes.into());
        match roll(3) {
            0 => {
                policy.insert("paths".to_owned(), json!(["/"]));
                paths.push(top);
            }
            1 => _ = policy.insert("paths".to_owned(), json!(["/a"])),
            _ => {}
        }
        let weakest = |policies: &[Map<String, Value>]| {
            let mut all = std::collections::BTreeMap::new();
            for finding in policies.iter().flat_map(|policy| of(policy, &Facts::default())) {
                // Where a route states events, the top may have none.
                if finding.id == "no_events" {
                    continue;
                }
                let worst = all.entry(finding.id).or_insert(finding.severity);
                *worst = (*worst).max(finding.severity);
            }
            all
        };
        assert_eq!(weakest(std::slice::from_ref(&policy)), weakest(&paths), "{policy:?}");
    }
}

/// The policy of a route, as the core has it.
fn over(top: &Map<String, Value>, route: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = top.clone();
    for (name, contrary) in [("origins", "dangerously_allow_any_origin"), ("dangerously_allow_any_origin", "origins")] {
        if route.contains_key(name) && !route.contains_key(contrary) {
            whole.remove(contrary);
        }
    }
    whole.extend(route.clone());
    whole
}

/// What is harmless at the top may not be on a route that states something else beside it.
#[test]
fn a_route_makes_worse_what_it_inherits() {
    let on_route = |more: &Value| {
        let mut policy = json!({"paths": ["/"], "routes": {"/a": {"auth": "none"}}});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = warned(&with(&policy), &Facts::default());
        found.into_iter().filter(|(_, _, option)| option.starts_with("routes./a.")).collect::<Vec<_>>()
    };
    let is_in =
        |found: &[(Severity, &str, String)], severity, id| found.iter().any(|one| (one.0, one.1) == (severity, id));
    assert!(is_in(&on_route(&json!({"dangerously_allow_any_origin": true})), High, "any_origin"));
    assert!(is_in(&on_route(&json!({"missing_origin": "allow"})), Medium, "missing_origin"));
    assert!(is_in(&on_route(&json!({"hosts": null})), Medium, "any_host"));
    let cookies = json!({"dangerously_allow_any_origin": true, "routes": {"/a": {"token_sources": ["cookie:s"]}}});
    assert!(is_in(&on_route(&cookies), High, "any_origin"));
    let same = json!({"dangerously_allow_any_origin": true, "routes": {"/a": {"max_fragments": 7}}});
    assert_eq!(on_route(&same), []);
    let listed = json!({"auth": "none", "origins": ["https://app.example"]});
    let listed = json!({"dangerously_allow_any_origin": true, "routes": {"/a": listed}});
    assert!(!is_in(&on_route(&listed), High, "any_origin"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_weakness_of_an_option_is_one_warning() {
    let jwt = |more: &Value| {
        let mut jwt =
            json!({"algorithms": ["HS256"], "key": "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKw", "audience": "chat"});
        jwt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"auth": {"jwt": jwt}})
    };
    for (more, severity, id, option) in [
        (json!({"dangerously_allow_any_origin": true}), Medium, "any_origin", "dangerously_allow_any_origin"),
        (
            json!({"dangerously_allow_any_origin": true, "auth": "callback"}),
            High,
            "any_origin",
            "dangerously_allow_any_origin",
        ),
        (json!({"origins": ["https://a.example", "https://*.app.example"]}), Medium, "wildcard_origin", "origins[1]"),
        (json!({"origins": ["moz-extension://*"]}), Medium, "wildcard_origin", "origins[0]"),
        (json!({"origins": ["HTTP://app.example"]}), Medium, "http_origin", "origins[0]"),
        (json!({"origins": ["https://[::1]"]}), Low, "local_origin", "origins[0]"),
        (json!({"origins": ["http://app.example"]}), Medium, "http_origin", "origins[0]"),
        (json!({"origins": ["null"]}), High, "null_origin", "origins[0]"),
        (json!({"origins": ["http://localhost:*"]}), Low, "local_origin", "origins[0]"),
        (json!({"missing_origin": "allow"}), Low, "missing_origin", "missing_origin"),
        (json!({"hosts": null}), Low, "any_host", "hosts"),
        (json!({"auth": "none"}), Medium, "no_authentication", "auth"),
        (
            json!({"auth": {"tokens": [{"token": "s3cret", "user": "alice"}]}}),
            High,
            "weak_token",
            "auth.tokens[0].token",
        ),
        (
            json!({"auth": {"tokens": [{"token": "change-me-change-me!", "user": "a"}]}}),
            High,
            "weak_token",
            "auth.tokens[0].token",
        ),
        (
            json!({"auth": {"tokens": [{"token": "9f86d081884c7d659a2feaa0c55ad015", "user": "a"}]}}),
            Low,
            "plain_token",
            "auth.tokens[0].token",
        ),
        (jwt(&json!({"key": "0123456789abcdef0123456789abcdef"})), High, "weak_secret", "auth.jwt.key"),
        (
            jwt(&json!({"key": null, "keys": {"k": "a very secret secret test key dev"}})),
            High,
            "weak_secret",
            "auth.jwt.keys (member 1)",
        ),
        (
            jwt(&json!({"key": {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}})),
            High,
            "weak_secret",
            "auth.jwt.key",
        ),
        (jwt(&json!({"audience": null})), Medium, "no_audience", "auth.jwt.audience"),
        (jwt(&json!({"leeway_s": 301})), Low, "long_leeway", "auth.jwt.leeway_s"),
        (
            json!({"auth": {"jwt": {"algorithms": ["ES256"], "jwks_url": "http://127.0.0.1:1/k", "audience": "a", "issuer": "i"}}}),
            Low,
            "keys_by_http",
            "auth.jwt.jwks_url",
        ),
        (
            json!({"auth": {"jwt": {"algorithms": ["ES256"], "jwks_url": "https://i.example/k", "audience": "a"}}}),
            Low,
            "no_issuer",
            "auth.jwt.issuer",
        ),
        (json!({"token_sources": ["bearer", "query:token"]}), Medium, "token_in_query", "token_sources[1]"),
        (json!({"on_violation": "report"}), Medium, "report_only", "on_violation"),
        (json!({"rate_limit": null}), Medium, "no_rate_limit", "rate_limit"),
        (json!({"rate_limit": {"bytes_per_second": null}}), Low, "no_byte_rate", "rate_limit.bytes_per_second"),
        (json!({"rate_limit": {"per_second": 1e6, "burst": 1e6}}), Low, "huge_rate", "rate_limit.per_second"),
        (json!({"control_rate_limit": null}), Low, "no_control_rate_limit", "control_rate_limit"),
        (json!({"handshakes_per_ip": null}), Medium, "no_handshake_rate", "handshakes_per_ip"),
        (json!({"max_message_bytes": 16_777_217}), Medium, "huge_messages", "max_message_bytes"),
        (json!({"max_outbox_bytes": 67_108_865}), Medium, "huge_outbox", "max_outbox_bytes"),
        (
            json!({"max_connections": 10, "max_connections_per_ip": 10}),
            Medium,
            "address_takes_all",
            "max_connections_per_ip",
        ),
        (json!({"idle_timeout_ms": 0}), Medium, "no_idle_timeout", "idle_timeout_ms"),
        (json!({"handshake_timeout_ms": 60_001}), Medium, "slow_handshakes", "handshake_timeout_ms"),
        (json!({"events": {}}), Low, "no_events", "events"),
        (json!({"max_connections": 100}), Medium, "address_takes_all", "max_connections_per_ip"),
        (json!({"events": {"say": {}}}), Low, "no_schema", "events.say"),
        (json!({"events": {"say": {"schema": true}}}), Low, "no_schema", "events.say"),
        (json!({"events": {"say": {"schema": {}}}}), Low, "no_schema", "events.say"),
        (
            json!({"listen": "0.0.0.0:80", "dangerously_allow_plaintext": true}),
            High,
            "plaintext",
            "dangerously_allow_plaintext",
        ),
        (json!({"dangerously_allow_plaintext": true}), Low, "plaintext_not_needed", "dangerously_allow_plaintext"),
        (json!({"trusted_proxies": ["10.0.0.0/8", "0.0.0.0/0"]}), High, "everybody_is_a_proxy", "trusted_proxies[1]"),
        (json!({"trusted_proxies": ["::ffff:0:0/96"]}), High, "everybody_is_a_proxy", "trusted_proxies[0]"),
        (json!({"trusted_proxies": ["::ffff:10.0.0.0/100"]}), High, "wide_proxies", "trusted_proxies[0]"),
        (json!({"trusted_proxies": ["128.0.0.0/2"]}), High, "wide_proxies", "trusted_proxies[0]"),
        (
            json!({"admin_listen": "0.0.0.0:9464", "dangerously_public_admin": true}),
            High,
            "public_admin",
            "admin_listen",
        ),
        (
            json!({"cluster": {"url": "rediss://:changeme-changeme@r.example"}}),
            Medium,
            "weak_cluster_password",
            "cluster.url",
        ),
        (json!({"cluster": {"url": "rediss://redis.example"}}), High, "cluster_without_password", "cluster.url"),
        (
            json!({"cluster": {"url": "redis://u:9f86d081884c7d659a2feaa0@redis.example"}}),
            High,
            "cluster_without_tls",
            "cluster.url",
        ),
        (json!({"routes": {"/a": {"rate_limit": null}}}), Medium, "no_rate_limit", "routes./a.rate_limit"),
        (json!({"routes": {"/a": {"auth": "none"}}}), Medium, "no_authentication", "routes./a.auth"),
    ] {
        assert_eq!(one(&more), (severity, id, option.to_owned()), "{more}");
    }
}

#[test]
fn what_is_harmless_is_not_warned_of() {
    for more in [
        json!({"protocol": "raw"}),
        json!({"listen": "0.0.0.0:80", "trusted_proxies": ["10.0.0.0/8", "fd00::/16", "unix"]}),
        json!({"cluster": {"url": "redis://127.0.0.1:6379"}}),
        json!({"cluster": {"url": "redis://[::1]"}}),
        json!({"trusted_proxies": ["fc00::/7", "fe80::/10", "10.0.0.0/8"]}),
        json!({"origins": ["https://127.0.0.1.example"]}),
        json!({"cluster": {"url": "rediss://u:9f86d081884c7d659a2feaa0@redis.example"}}),
        json!({"admin_listen": "127.0.0.1:9464"}),
        json!({"max_message_bytes": 16_777_216, "max_outbox_bytes": 67_108_864}),
        json!({"max_connections": 11, "max_connections_per_ip": 10}),
        json!({"handshake_timeout_ms": 60_000}),
        json!({"token_sources": ["cookie:session"]}),
        json!({"auth": "callback"}),
        json!({"auth": {"jwt": {"algorithms": ["HS256"], "key": "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKw", "audience": "chat", "leeway_s": 300}}}),
        json!({"routes": {"/a": {"max_fragments": 5}}}),
    ] {
        assert_eq!(warned(&with(&more), &Facts::default()), [], "{more}");
    }
}

#[test]
fn what_several_options_do_together() {
    let both = json!({"on_violation": "report", "report_handshakes": true});
    let found = warned(&with(&both), &Facts::default());
    assert_eq!(
        found.iter().map(|(severity, id, _)| (*severity, *id)).collect::<Vec<_>>(),
        [(High, "report_handshakes"), (Medium, "report_only")]
    );
    let public = json!({"auth": "none", "listen": "0.0.0.0:80", "trusted_proxies": ["10.0.0.1"]});
    assert_eq!(one(&public).0, High);
    let open = json!({"auth": "none", "hosts": null, "missing_origin": "allow"});
    assert!(warned(&with(&open), &Facts::default()).iter().all(|(severity, ..)| *severity == Medium));
}

#[test]
fn memory_is_looked_at_where_it_was_stated() {
    let facts = Facts { memory_bytes: Some(8 << 30), ..Facts::default() };
    let large = with(&json!({"max_connections": 1_000_000, "max_connections_per_ip": 5}));
    assert_eq!(warned(&large, &facts), [(Low, "memory", "max_connections".to_owned())]);
    let small = with(&json!({"max_connections": 1000, "max_connections_per_ip": 5}));
    assert_eq!(warned(&small, &facts), []);
    assert_eq!(warned(&good(), &facts), []);
}

#[test]
fn files_that_others_reach_are_told() {
    let file = OpenFile {
        option: "tls.key".into(),
        path: "/k.pem".into(),
        is_readable: true,
        is_writable: false,
        is_secret: true,
    };
    let told = |file: OpenFile| warned(&good(), &Facts { open_files: vec![file], ..Facts::default() });
    assert_eq!(told(file.clone()), [(High, "open_file", "tls.key".to_owned())]);
    // A public key, and a policy of digests: whoever writes the first makes tokens.
    let written = OpenFile { is_readable: false, is_writable: true, is_secret: false, ..file };
    let key = OpenFile { option: "auth.jwt.key".into(), ..written.clone() };
    assert_eq!(told(key), [(High, "open_file", "auth.jwt.key".to_owned())]);
    let policy = OpenFile { option: "options".into(), ..written };
    assert_eq!(told(policy), [(Medium, "open_file", "options".to_owned())]);
}

/// The facts of a certificate for app.example, from 2030-01-01 until 2030-12-31, on a day.
fn certificate_at(now_unix_s: u64) -> Facts {
    let key = rcgen::KeyPair::generate().unwrap();
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut leaf = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(2030, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2030, 12, 31);
    let cert = leaf.signed_by(&key, &issuer).unwrap().pem();
    let options = TlsOptions { cert, key: key.serialize_pem(), ..TlsOptions::default() };
    Facts { now_unix_s, certificate: Some(examine_tls(&options).unwrap()), ..Facts::default() }
}

#[test]
fn certificates_are_judged_by_the_day() {
    const FROM: u64 = 1_893_456_000;
    const UNTIL: u64 = 1_924_905_600;
    const DAY: u64 = 86_400;
    for (now, told) in [
        (FROM - 1, Some((High, "certificate_not_yet"))),
        (FROM, None),
        (UNTIL - 30 * DAY, None),
        (UNTIL - 30 * DAY + 1, Some((Medium, "certificate_expires"))),
        (UNTIL - 7 * DAY + 1, Some((High, "certificate_expires"))),
        (UNTIL, Some((High, "certificate_expired"))),
    ] {
        let found = warned(&good(), &certificate_at(now));
        assert_eq!(found.iter().map(|(severity, id, _)| (*severity, *id)).next(), told, "{now}");
        assert!(found.len() <= 1, "{found:?}");
    }
}

#[test]
fn the_names_of_a_certificate_are_those_that_are_served() {
    let facts = certificate_at(1_900_000_000);
    let policy = with(&json!({"hosts": ["app.example:8443", "other.example"]}));
    assert_eq!(warned(&policy, &facts), [(Medium, "certificate_name", "hosts[1]".to_owned())]);
    let policy = with(&json!({"routes": {"/a": {"hosts": ["other.example"]}, "/b": {}}}));
    assert_eq!(warned(&policy, &facts), [(Medium, "certificate_name", "routes./a.hosts[0]".to_owned())]);
}

#[test]
fn a_certificate_of_its_own_is_told() {
    let made = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
    let options = TlsOptions { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), ..TlsOptions::default() };
    let facts =
        Facts { now_unix_s: 1_900_000_000, certificate: Some(examine_tls(&options).unwrap()), ..Facts::default() };
    assert_eq!(warned(&good(), &facts), [(Medium, "certificate_self_issued", "tls.cert".to_owned())]);
}
