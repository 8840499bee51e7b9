use super::*;
use proptest::prelude::*;

fn policy(entries: &[&str]) -> OriginPolicy {
    OriginPolicy::new(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn error(entry: &str) -> ConfigError {
    OriginPolicy::new(&["https://fine.example".to_owned(), entry.to_owned()]).unwrap_err()
}

#[track_caller]
fn check(entries: &[&str], allowed: &[&str], denied: &[&str]) {
    let policy = policy(entries);
    for origin in allowed {
        assert!(policy.allows(origin.as_bytes()), "{origin:?} should be allowed by {entries:?}");
    }
    for origin in denied {
        assert!(!policy.allows(origin.as_bytes()), "{origin:?} should be denied by {entries:?}");
    }
}

/// What a page that is not `https://app.example.com` might send, or a client that lies.
const NOT_THE_APP: &[&str] = &[
    // H1, H2
    "https://evil.io",
    "null",
    "",
    "file://",
    "file:///",
    "about:blank",
    // H3: suffixes and prefixes
    "https://app.example.com.evil.io",
    "https://app.example.comevil.io",
    "https://app.example.com-evil.io",
    "https://evilapp.example.com",
    "https://evil.app.example.com",
    "https://evil-app.example.com",
    "https://example.com",
    "https://pp.example.com",
    "https://app.example.co",
    "https://app.example.comm",
    "https://com",
    "https://evil.io/https://app.example.com",
    "https://evil.io?https://app.example.com",
    "https://evil.io#https://app.example.com",
    // user information
    "https://app.example.com@evil.io",
    "https://app.example.com:443@evil.io",
    "https://user@app.example.com",
    "https://user:password@app.example.com",
    "https://@app.example.com",
    // dots
    "https://app.example.com.",
    "https://app.example.com..",
    "https://.app.example.com",
    "https://app..example.com",
    "https://app.example.com.:443",
    // other scheme, other port
    "http://app.example.com",
    "http://app.example.com:443",
    "wss://app.example.com",
    "ws://app.example.com:443",
    "https://app.example.com:80",
    "https://app.example.com:8443",
    "https://app.example.com:0443",
    "https://app.example.com:00443",
    "https://app.example.com:+443",
    "https://app.example.com:-443",
    "https://app.example.com: 443",
    "https://app.example.com:443 ",
    "https://app.example.com:65979",
    "https://app.example.com:4294967739",
    "https://app.example.com:18446744073709552059",
    "https://app.example.com:0",
    "https://app.example.com:",
    "https://app.example.com:443:443",
    "https://app.example.com:443a",
    "https://app.example.com:0x1bb",
    // something after
    "https://app.example.com/",
    "https://app.example.com/path",
    "https://app.example.com:443/",
    "https://app.example.com?query",
    "https://app.example.com#fragment",
    "https://app.example.com\\",
    "https://app.example.com\\.evil.io",
    "https://app.example.com;",
    "https://app.example.com,https://app.example.com",
    "https://app.example.com https://app.example.com",
    "https://evil.io https://app.example.com",
    "https://evil.io, https://app.example.com",
    // white space, control bytes
    " https://app.example.com",
    "https://app.example.com ",
    "https://app.example.com\t",
    "https://app.example .com",
    "https://app.\texample.com",
    "https://app.example.com\r\n",
    "https://app.example.com\0",
    "https://app.example.com\0.evil.io",
    // percent-encoding, other letters
    "https://app%2eexample.com",
    "https://app.example.com%00",
    "https://app.example.com%2eevil.io",
    "https://%61pp.example.com",
    "https://app.example.com\u{212a}",
    "https://app\u{3002}example.com",
    "https://\u{430}pp.example.com",
    "https://app.ex\u{ad}ample.com",
    // broken delimiters
    "https:/app.example.com",
    "https:app.example.com",
    "https:///app.example.com",
    "https:////app.example.com",
    "https:\\\\app.example.com",
    "https//app.example.com",
    "://app.example.com",
    "//app.example.com",
    "app.example.com",
    "app.example.com:443",
    "https",
    "https:",
    "https://",
    "https://:443",
    "https://:",
    "https://.",
    "https://*",
    "https://*.example.com",
    "*",
    "https ://app.example.com",
    " https://app.example.com",
    "1https://app.example.com",
    "https\n://app.example.com",
    "blob:https://app.example.com",
    "view-source:https://app.example.com",
    // IPv6 forms
    "https://[app.example.com]",
    "https://[::1]",
    "https://[",
    "https://[]",
    "https://]",
];

#[test]
fn an_exact_origin_allows_itself_and_nothing_like_it() {
    check(
        &["https://app.example.com"],
        &[
            "https://app.example.com",
            "https://app.example.com:443",
            "https://APP.Example.COM",
            "HTTPS://app.example.com",
            "HtTpS://aPP.example.com:443",
        ],
        NOT_THE_APP,
    );
}

#[test]
fn default_ports_of_every_scheme_are_filled_in() {
    check(&["http://a.example"], &["http://a.example", "http://a.example:80"], &["http://a.example:443"]);
    check(&["http://a.example:80"], &["http://a.example", "http://a.example:80"], &["https://a.example"]);
    check(&["wss://a.example"], &["wss://a.example:443"], &["wss://a.example:80", "https://a.example"]);
    check(&["ws://a.example:80"], &["ws://a.example"], &["ws://a.example:443", "http://a.example"]);
    check(&["HTTPS://A.Example:443"], &["https://a.example"], &["https://a.example:444"]);
    check(
        &["http://localhost:3000"],
        &["http://localhost:3000", "http://LOCALHOST:3000"],
        &["http://localhost", "http://localhost:30000", "http://localhost:300", "http://127.0.0.1:3000"],
    );
    check(&["https://a.example:65535"], &["https://a.example:65535"], &["https://a.example:65536"]);
}

#[test]
fn other_schemes_have_no_default_port() {
    check(
        &["chrome-extension://abc", "moz-extension://3c9c8bbe-0c2d-4b62-a4d1-9c4a2b3cbbcd", "app+x.y://host:443"],
        &[
            "chrome-extension://abc",
            "chrome-extension://ABC",
            "moz-extension://3c9c8bbe-0c2d-4b62-a4d1-9c4a2b3cbbcd",
            "app+x.y://host:443",
        ],
        &[
            "chrome-extension://abcd",
            "chrome-extension://abc:80",
            "chrome-extension://abc:443",
            "chrome-extension://abc/",
            "app+x.y://host",
            "https://abc",
        ],
    );
}

#[test]
fn a_wildcard_stands_for_one_or_more_labels() {
    check(
        &["https://*.example.com"],
        &[
            "https://a.example.com",
            "https://a.b.example.com",
            "https://a.b.c.d.example.com:443",
            "https://A_1-x.EXAMPLE.com",
            "https://www.example.com",
            "https://example.com.example.com",
        ],
        &[
            "https://example.com",
            "https://.example.com",
            "https://..example.com",
            "https://a..example.com",
            "https://evilexample.com",
            "https://a.evilexample.com",
            "https://a-example.com",
            "https://a.example.com.",
            "https://a.example.com.evil.io",
            "https://evil.io/.example.com",
            "https://evil.io?.example.com",
            "https://evil.io#.example.com",
            "https://evil.io\\.example.com",
            "https://evil.io:443.example.com",
            "https://evil.io@a.example.com",
            "https://evil.io%00.example.com",
            "https://evil.io .example.com",
            "https://*.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://[.example.com",
            "https://[].example.com",
            "https://[::1].example.com",
            "https://[a.example.com]",
        ],
    );
    check(
        &["http://*.localhost:3000"],
        &["http://a.localhost:3000", "http://a.b.localhost:3000"],
        &["http://localhost:3000", "http://a.localhost"],
    );
}

#[test]
fn a_wildcard_may_stand_below_what_has_one_owner() {
    for entry in [
        "https://*.example.com",
        "https://*.example.co.uk",
        "https://*.me.github.io",
        "https://*.localhost",
        "https://*.internal",
        "https://*.city.kawasaki.jp",
        "https://*.my-intranet",
    ] {
        policy(&[entry]);
    }
    // Exactly such a host is a host like any other.
    check(&["https://github.io"], &["https://github.io"], &["https://a.github.io"]);
}

#[test]
fn a_wildcard_leaves_out_names_below_a_public_suffix_under_it() {
    check(
        &["https://*.amazonaws.com", "https://*.windows.net"],
        &["https://console.amazonaws.com", "https://s3.amazonaws.com", "https://a.b.windows.net"],
        &[
            "https://evil.s3.amazonaws.com",
            "https://a.evil.s3.amazonaws.com",
            "https://EVIL.S3.AMAZONAWS.COM",
            "https://evil.blob.core.windows.net",
        ],
    );
    check(&["https://*.mine.s3.amazonaws.com"], &["https://a.mine.s3.amazonaws.com"], &[]);
}

#[test]
fn an_ipv4_mapped_address_is_written_as_browsers_send_it() {
    for entry in ["http://[::ffff:192.0.2.7]:8080", "http://[::ffff:c000:207]:8080"] {
        check(&[entry], &["http://[::ffff:c000:207]:8080"], &["http://192.0.2.7:8080"]);
    }
}

#[test]
fn any_port_is_any_port_of_this_machine() {
    check(
        &["http://localhost:*"],
        &["http://localhost", "http://localhost:80", "http://localhost:5173", "http://LOCALHOST:65535"],
        &[
            "https://localhost",
            "http://localhost:",
            "http://localhost:0",
            "http://localhost:65536",
            "http://localhost:*",
            "http://localhost:80:80",
            "http://localhost:80@evil.io",
            "http://localhost.evil.io:80",
            "http://a.localhost:80",
            "http://127.0.0.1:80",
            "http://localhost:80/",
        ],
    );
    check(&["https://127.0.0.1:*"], &["https://127.0.0.1", "https://127.0.0.1:9"], &["https://127.0.0.2:9"]);
    check(&["http://[::1]:*"], &["http://[::1]", "http://[::1]:9"], &["http://[::2]:9", "http://[::1]9"]);
    check(&["http://*.localhost:*"], &["http://a.localhost:9"], &["http://localhost:9"]);
}

#[test]
fn any_host_of_a_scheme_that_is_not_one_of_the_web_s() {
    check(
        &["moz-extension://*", "Chrome-Extension://*"],
        &["moz-extension://3c9c8bbe-0c2d-4b62-a4d1-9c4a2b3cbbcd", "MOZ-EXTENSION://abc", "chrome-extension://abcdefgh"],
        &[
            "moz-extension://",
            "moz-extension://*",
            "moz-extension://a:80",
            "moz-extension://a/b",
            "moz-extension://a b",
            "moz-extension://.",
            "moz-extensions://abc",
            "https://moz-extension",
            "vscode-webview://abc",
            "null",
        ],
    );
    for scheme in PUBLIC_SCHEMES.into_iter().chain(["HTTPS", "File"]) {
        let message = error(&format!("{scheme}://*")).message;
        assert!(message.contains("dangerously_allow_any_origin"), "{scheme}: {message}");
    }
}

#[test]
fn a_scheme_may_have_a_dot_for_its_host() {
    check(&["app://."], &["app://."], &["app://", "app://..", "app://a", "APP://.", "https://."]);
}

#[test]
fn null_and_file_are_allowed_only_when_listed() {
    let not_null = ["Null", "NULL", "null ", " null", "nul", "nulll", "null://", "https://null", "null:443", ""];
    check(&["null"], &["null"], &not_null);
    check(&["https://null"], &["https://null"], &["null"]);
    check(&["null", "https://a.example"], &["null", "https://a.example"], &["file://"]);
    check(&["file://"], &["file://"], &["FILE://", "file:///", "file://host", "file:", "null", ""]);
}

#[test]
fn addresses_are_allowed_in_one_form() {
    check(
        &["http://[2001:DB8:0:0:0:0:0:1]:8080", "https://[::1]", "https://192.0.2.7"],
        &[
            "http://[2001:db8::1]:8080",
            "https://[::1]",
            "https://[::1]:443",
            "https://192.0.2.7",
            "https://192.0.2.7:443",
        ],
        &[
            "http://[2001:DB8::1]:8080",
            "http://[2001:db8:0:0:0:0:0:1]:8080",
            "http://[2001:0db8::1]:8080",
            "http://[2001:db8::1]",
            "http://[2001:db8::1%25eth0]:8080",
            "https://[0:0:0:0:0:0:0:1]",
            "https://[::0001]",
            "https://[::1%lo]",
            "https://[::1].",
            "https://[::1].evil.io",
            "https://[::1]evil.io",
            "https://[::1]@evil.io",
            "https://[::1]]",
            "https://[[::1]]",
            "https://[::1",
            "https://::1",
            "https://::1]",
            "https://[::1]:",
            "https://[::1]:0443",
            "https://[::1]:443:443",
            "https://[::ffff:192.0.2.7]",
            "https://[::ffff:c000:207]",
            "https://192.0.2.07",
            "https://192.0.2.007",
            "https://192.0.519",
            "https://3221225991",
            "https://0xc0000207",
            "https://0300.0.2.7",
            "https://192.0.2.7.",
            "https://192.0.2.7.evil.io",
        ],
    );
}

#[test]
fn any_allows_what_does_not_even_parse() {
    for origin in ["https://evil.io", "null", "", "\0", "https://"] {
        assert!(OriginPolicy::any().allows(origin.as_bytes()), "{origin:?}");
    }
    assert!(OriginPolicy::any().allows(&[0xff; 4096]));
}

#[test]
fn bytes_that_are_not_utf8_and_long_values_are_denied() {
    let policy = policy(&["https://*.example.com", "null"]);
    assert!(!policy.allows(b"https://\xff.example.com"));
    assert!(!policy.allows(b"\x80null"));
    let of_length = |length: usize| {
        let labels = "a.".repeat((length - "https://example.com".len()) / 2);
        format!("https://{}{labels}example.com", if length.is_multiple_of(2) { "a" } else { "" })
    };
    assert_eq!(of_length(512).len(), 512);
    assert!(policy.allows(of_length(512).as_bytes()));
    assert!(!policy.allows(of_length(513).as_bytes()));
    assert!(!policy.allows("a".repeat(1 << 20).as_bytes()));
}

#[track_caller]
fn are_errors(cases: &[(&str, &[&str])]) {
    for (expected, entries) in cases {
        for entry in *entries {
            let error = error(entry);
            assert_eq!(error.option, "origins[1]", "{entry:?}");
            assert!(error.message.contains(expected), "{entry:?}: {}", error.message);
            assert!(error.message.contains(ACCEPTED), "{entry:?}: {}", error.message);
        }
    }
}

#[test]
fn wildcards_over_what_is_somebody_else_s_are_errors() {
    are_errors(&[
        (
            "ports of this machine",
            &[
                "https://app.example:*",
                "http://192.168.0.1:*",
                "http://evil-localhost:*",
                "app://host:*",
                "http://*.a.example:*",
            ],
        ),
        ("the port must be", &["http://localhost:80:*", "http://[::1]:80:*", "http://localhost::*"]),
        (
            "is a public suffix",
            &[
                "https://*.com",
                "https://*.COM",
                "http://*.com:8080",
                "https://*.co.uk",
                "https://*.github.io",
                "https://*.pages.dev",
                "https://*.s3.amazonaws.com",
                "https://*.ck",
                "https://*.kawasaki.jp",
                "https://*.xn--55qx5d.cn",
            ],
        ),
    ]);
}

#[test]
fn entries_that_are_not_origins_are_errors() {
    let cases: &[(&str, &[&str])] = &[
        ("dangerously_allow_any_origin", &["*", "https://*", "https://*:443", "*://*", "http://*:*", "*:8080"]),
        ("user information", &["https://user@app.example", "https://u:p@app.example", "https://@app.example"]),
        (
            "ends after its host",
            &[
                "https://app.example/",
                "https://app.example/path",
                "https://app.example:443/",
                "https://app.example?q",
                "https://app.example#f",
                "https://*.app.example/",
                "https:///app.example",
                "file:///",
                "https://app.example\\",
            ],
        ),
        (
            "stands only for",
            &[
                "https://*.*.example.com",
                "https://a.*.example.com",
                "https://a*.example.com",
                "https://*example.com",
                "https://example.*",
                "*://app.example",
                "http*://app.example",
            ],
        ),
        ("ASCII form", &["https://b\u{fc}cher.example", "https://app.example\u{2026}", "\u{a0}https://a.example"]),
        (
            "scheme",
            &["app.example", "app.example:443", "", "null ", "://app.example", "1a://b", " https://app.example"],
        ),
        (
            "the host must be",
            &[
                "https://",
                "https://:443",
                "https://.",
                "https://app.example.",
                "https://app..example",
                "https://.app.example",
                "https://app example",
                "https://app.example ",
                "https://app%2eexample",
                "https://*.",
                "https://*..example",
                "https://*.example.com.",
                "https://a.example,b.example",
            ],
        ),
        (
            "the port must be",
            &[
                "https://app.example:",
                "https://app.example:0",
                "https://app.example:080",
                "https://app.example:65536",
                "https://app.example:x",
                "https://app.example:1:2",
                "https://a:::1",
            ],
        ),
        ("IPv6", &["https://[::1", "https://[]", "https://[::g]", "https://[1.2.3.4]", "https://[::1]x"]),
        ("four decimals", &["https://127.1", "https://1", "https://0x7f.1", "https://a.0x1f", "https://1.2.3.04"]),
        ("no subdomains", &["https://*.127.0.0.1", "https://*.[::1]"]),
    ];
    are_errors(cases);
    assert_eq!(OriginPolicy::new(&[]).unwrap_err().option, "origins");
    assert!(!error("https://user:hunter2@app.example").message.contains("hunter2"));
}

#[test]
fn the_policy_describes_itself_in_canonical_form() {
    let policy = policy(&["HTTPS://App.example:443", "http://*.A.example:8080", "null", "http://[0::1]:80"]);
    assert_eq!(policy.describe(), "https://app.example, http://*.a.example:8080, null, http://[::1]");
    assert!(OriginPolicy::any().describe().contains("dangerously_allow_any_origin"));
}

proptest! {
    #[test]
    fn no_header_panics(header in proptest::collection::vec(any::<u8>(), 0..600)) {
        policy(&["https://*.example.com", "https://[::1]", "null"]).allows(&header);
    }

    #[test]
    fn no_entry_panics(entry in "(https?://)?(\\*\\.?)?[a-z0-9.:\\[\\]@/*%\u{e9} -]{0,20}") {
        // What is accepted is also what is allowed, unless it is a wildcard.
        if let Ok(policy) = OriginPolicy::new(std::slice::from_ref(&entry)) {
            let canonical = policy.describe();
            prop_assert_eq!(policy.allows(canonical.as_bytes()), !entry.contains('*'));
        }
    }

    #[test]
    fn any_port_changes_nothing_but_the_port(host in "[a-z0-9.@:/\\[\\]-]{0,14}", port in any::<u16>()) {
        let allowed = policy(&["http://localhost:*"]).allows(format!("http://{host}:{port}").as_bytes());
        prop_assert_eq!(allowed, host == "localhost" && port != 0);
    }

    #[test]
    fn any_host_is_one_host_of_that_scheme(scheme in "[a-z+.-]{1,8}", host in "[ -~]{0,20}") {
        let origin = format!("{scheme}://{host}");
        let allowed = policy(&["app+x://*"]).allows(origin.as_bytes());
        prop_assert_eq!(allowed, scheme == "app+x" && is_name(&host));
    }

    #[test]
    fn only_whole_labels_stand_before_the_suffix(prefix in "[ -~]{0,12}") {
        let allowed = policy(&["https://*.example.com"]).allows(format!("https://{prefix}example.com").as_bytes());
        let labels = prefix.strip_suffix('.').is_some_and(is_name);
        prop_assert_eq!(allowed, labels);
    }
}
