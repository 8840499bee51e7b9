//! `wsguard token`, as a user runs it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Scratch, run, run_with, wsguard};
use serde_json::{Value, json};

const SECRET: &str = "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKw";

fn policy(scratch: &Scratch) -> String {
    let jwt = json!({"algorithms": ["HS256"], "key": SECRET, "issuer": "https://i.example", "audience": ["chat", "x"], "roles_claim": "groups", "user_claim": "uid"});
    let other = json!({"tokens": [{"token": "9f86d081884c7d659a2feaa0c55ad015", "user": "bob", "roles": ["ops"]}]});
    let policy =
        json!({"origins": ["https://a.example"], "auth": {"jwt": jwt}, "routes": {"/ops": {"auth": other}, "/x": {}}});
    scratch.file("policy.json", policy.to_string())
}

#[test]
fn a_token_of_the_policy_is_accepted_by_it() {
    let scratch = Scratch::new("token");
    let policy = policy(&scratch);
    let made =
        run(&["token", "make", "--policy", &policy, "--sub", "alice", "--role", "admin", "--claim", "team=\"blue\""]);
    assert!(made.code == Some(0) && made.err.is_empty(), "{made:?}");
    let inspected = run_with(&["token", "inspect", "--policy", &policy], made.out.as_bytes());
    assert_eq!(inspected.code, Some(0), "{inspected:?}");
    assert!(inspected.out.contains("accepted as alice, with the roles admin; the session ends "), "{}", inspected.out);
    assert!(inspected.out.contains("\"blue\"") && inspected.out.contains("UTC, in "), "{}", inspected.out);
    let shown = run_with(&["token", "inspect", "--json"], made.out.as_bytes());
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(
        (&shown["claims"]["iss"], &shown["claims"]["aud"], &shown["claims"]["uid"]),
        (&json!("https://i.example"), &json!("chat"), &json!("alice"))
    );
    assert_eq!(shown["accepted"], Value::Null);
}

#[test]
fn why_a_token_is_refused_is_told() {
    let scratch = Scratch::new("refused");
    let policy = policy(&scratch);
    let secret = scratch.file("secret", format!("{SECRET}\n"));
    let other = scratch.file("other", "another secret, which is as long as the first");
    let make = |more: &[&str]| {
        let made = run(&[&["token", "make", "--sub", "alice"], more].concat());
        assert_eq!(made.code, Some(0), "{made:?}");
        made.out
    };
    let of_policy = ["--policy", &policy];
    for (token, words) in [
        (make(&[&of_policy[..], &["--secret-file", &other]].concat()), "signature"),
        (make(&[&of_policy[..], &["--claim", "exp=1000"]].concat()), "expired"),
        (make(&[&of_policy[..], &["--claim", "aud=\"else\""]].concat()), "aud"),
        (make(&["--secret-file", &secret]), "iss"),
        (make(&["--secret-file", &secret, "--claim", "iss=\"https://i.example\"", "--claim", "aud=\"chat\""]), "user"),
        ("no.jwt".into(), "refused: "),
        (String::new(), "no credential"),
    ] {
        let ran = run_with(&["token", "inspect", "--policy", &policy], token.as_bytes());
        assert!(ran.code == Some(1) && ran.out.contains("refused: ") && ran.out.contains(words), "{words}: {ran:?}");
    }
}

#[test]
fn the_route_counts() {
    let scratch = Scratch::new("route");
    let policy = policy(&scratch);
    let at = |path: &str| {
        run_with(&["token", "inspect", "--policy", &policy, "--route", path], b"9f86d081884c7d659a2feaa0c55ad015")
    };
    let (accepted, refused, unknown) = (at("/ops"), at("/x"), at("/nowhere"));
    assert!(accepted.code == Some(0) && accepted.out.contains("accepted as bob, with the roles ops"), "{accepted:?}");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(unknown.code == Some(2) && unknown.err.contains("serves no path /nowhere"), "{unknown:?}");
}

#[test]
fn an_opaque_token_comes_with_its_digest() {
    let scratch = Scratch::new("opaque");
    let (one, two) = (run(&["token", "make", "--opaque"]), run(&["token", "make", "--opaque"]));
    assert!(one.out != two.out && one.out.trim().len() == 43, "{one:?}");
    let digest = one.err.split('"').nth(3).unwrap().to_owned();
    let policy = json!({"origins": ["https://a.example"], "auth": {"tokens": [{"sha256": digest, "user": "carol"}]}});
    let policy = scratch.file("policy.json", policy.to_string());
    let ran = run_with(&["token", "inspect", "--policy", &policy], one.out.as_bytes());
    assert!(ran.code == Some(0) && ran.out.contains("accepted as carol"), "{ran:?}");
}

#[test]
fn what_cannot_be_made_is_said_without_the_key() {
    let scratch = Scratch::new("make");
    let (short, policy) = (scratch.file("short", "hunter2hunter2"), policy(&scratch));
    for (arguments, words) in [
        (&["--secret-file", &short][..], "the secret must have at least 32 bytes for HS256, got 14"),
        (&["--key-file", &short, "--alg", "ES256"], "--key-file: "),
        (&["--secret-file", &short, "--alg", "ES256"], "ES256 signs with a private key"),
        (&["--secret-file", "/no/such"], "--secret-file: "),
        (&[], "--alg is needed"),
        (&["--policy", &policy, "--alg", "RS256"], "--alg: the policy does not accept RS256, but HS256"),
        (&["--policy", &policy, "--route", "/ops"], "auth is not by JSON Web Tokens"),
        (&["--policy", &policy, "--exp", "soon"], "is no time"),
        (&["--policy", &policy, "--claim", "x"], "--claim needs"),
        (&["--opaque", "--sub", "a"], "cannot be used with"),
    ] {
        let ran = run(&[&["token", "make"], arguments].concat());
        assert!(ran.code == Some(2) && ran.err.contains(words) && ran.out.is_empty(), "{words}: {ran:?}");
        assert!(!ran.err.contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn what_a_token_says_does_not_reach_the_terminal() {
    let scratch = Scratch::new("terminal");
    let policy = policy(&scratch);
    let made =
        run(&["token", "make", "--policy", &policy, "--sub", "alice", "--claim", r#"x="\u001b]0;owned\u0007\u202e""#]);
    let shown = run_with(&["token", "inspect"], made.out.as_bytes());
    assert!(shown.code == Some(0) && !shown.out.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
}

#[test]
fn of_several_keys_one_is_named() {
    let scratch = Scratch::new("kid");
    let keys = json!({"new": SECRET, "old": SECRET.replace('k', "K")});
    let jwt = json!({"algorithms": ["HS256"], "keys": keys});
    let policy =
        scratch.file("policy.json", json!({"origins": ["https://a.example"], "auth": {"jwt": jwt}}).to_string());
    let secret = scratch.file("secret", SECRET);
    let make = ["token", "make", "--policy", &policy, "--secret-file", &secret, "--sub", "alice"];
    let unnamed = run(&make);
    assert_eq!(unnamed.code, Some(2), "{unnamed:?}");
    assert!(unnamed.err.contains("auth.jwt.keys has 2 keys: name that of this token with --kid"), "{unnamed:?}");
    let named = run(&[&make[..], &["--kid", "new"]].concat());
    let inspected = run_with(&["token", "inspect", "--policy", &policy], named.out.as_bytes());
    assert_eq!(inspected.code, Some(0), "{inspected:?}");
}

#[test]
fn a_secret_of_the_policy_signs_wherever_it_stands() {
    let scratch = Scratch::new("secrets");
    let jwk = json!({"kty": "oct", "kid": "new", "alg": "HS256", "k": "a1gyLzlzTHBRMHZUejdXYi8zY1loSjRtTmRSZjhBZUd1Vm8xaVN4UHFLdw"});
    for (name, keys) in [
        ("named", json!({"new": SECRET})),
        ("list", json!([{"kid": "new", "key": SECRET}])),
        ("set", json!({"keys": [jwk]})),
    ] {
        let jwt = json!({"algorithms": ["HS256"], "keys": keys});
        let policy = json!({"origins": ["https://a.example"], "auth": {"jwt": jwt}});
        let policy = scratch.file(name, policy.to_string());
        let made = run(&["token", "make", "--policy", &policy, "--sub", "alice"]);
        assert!(made.code == Some(0) && made.err.is_empty(), "{name}: {made:?}");
        let inspected = run_with(&["token", "inspect", "--policy", &policy], made.out.as_bytes());
        assert!(inspected.out.contains("accepted as alice"), "{name}: {inspected:?}");
    }
}

#[test]
fn a_token_that_its_policy_refuses_is_said_to_be_one() {
    let scratch = Scratch::new("unfit");
    let policy = policy(&scratch);
    for (more, words) in [(&[][..], "user"), (&["--sub", "a", "--claim", "exp=1000"], "expired")] {
        let made = run(&[&["token", "make", "--policy", &policy], more].concat());
        assert!(made.code == Some(0) && !made.out.is_empty(), "{made:?}");
        assert!(made.err.contains("would not accept it: refused: ") && made.err.contains(words), "{made:?}");
    }
}

/// The digest alone would stand in a policy for a token that nobody has.
#[cfg(unix)]
#[test]
fn a_token_that_nobody_reads_is_a_failure() {
    let (ours, nobody) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(nobody);
    let child = wsguard(&["token", "make", "--opaque"])
        .stdout(std::os::fd::OwnedFd::from(ours))
        .stderr(std::process::Stdio::piped())
        .spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && !errors.contains("sha256"), "{errors}");
}
