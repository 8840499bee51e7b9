//! `wsguard check`, as a user runs it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::format_collect, reason = "a test")]

mod common;

use common::{Scratch, golden, mode, run, run_with};
use serde_json::Value;

const GOOD: &str = include_str!("golden/good.json");
const WEAK: &str = include_str!("golden/weak.json");

#[test]
fn a_good_policy_has_nothing_to_warn_of() {
    let ran = run_with(&["check", "-", "--strict"], GOOD.as_bytes());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    golden("check-good.txt", &ran.out);
}

#[test]
fn a_weak_policy_is_warned_of_and_no_secret_is_shown() {
    let ran = run_with(&["check", "-"], WEAK.as_bytes());
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{ran:?}");
    for secret in ["hunter2", "0123456789abcdef"] {
        assert!(!ran.out.contains(secret), "{secret}: {}", ran.out);
    }
    golden("check-weak.txt", &ran.out);
    let all = run_with(&["check", "-", "--all"], WEAK.as_bytes()).out;
    assert!(all.contains("max_fragments                1024  (default)"), "{all}");
    assert!(all.contains("deny_ips                     []  (default)"), "{all}");
    assert!(all.contains("cluster                      none  (default)"), "{all}");
}

#[test]
fn the_same_as_json() {
    let ran = run_with(&["check", "-", "--json"], WEAK.as_bytes());
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["in_force"]["max_head_bytes"], 65_536);
    assert_eq!(told["routes"]["/admin"]["auth"]["tokens"][0]["token"], "[secret, 7 bytes]");
    let warnings = told["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|one| one["id"] == "weak_secret" && one["severity"] == "high"), "{warnings:?}");
    assert!(!ran.out.contains("hunter2") && !ran.out.contains("0123456789"), "{}", ran.out);
}

#[test]
fn what_does_not_start_is_said_as_a_start_says_it() {
    for (policy, words) in [
        ("{}", "standard input: missing_option: origins: "),
        (r#"{"orgins": []}"#, "unknown_option: orgins: "),
        (
            r#"{"origins": ["https://a.example"], "auth": "none", "max_fragments": 0}"#,
            "max_fragments: must be a whole number from 1",
        ),
        (
            r#"{"origins": ["https://a.example"], "auth": "none", "tls": {"cert": "/no/such.pem", "key": "x"}}"#,
            "tls.cert: the file /no/such.pem cannot be read",
        ),
        (
            r#"{"origins": ["https://a.example"], "auth": "none", "maxFragments": 1, "max_fragments": 2}"#,
            "contradiction: max_fragments: is stated twice",
        ),
        ("not JSON", "options: "),
    ] {
        let ran = run_with(&["check", "-"], policy.as_bytes());
        assert!(ran.code == Some(2) && ran.err.contains(words) && ran.out.is_empty(), "{words}: {ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    }
}

#[test]
fn toml_and_options_of_the_command_line() {
    let scratch = Scratch::new("toml");
    let policy = scratch.file("policy.toml", "origins = [\"https://a.example\"]\nauth = \"callback\"\n[events.say]\n");
    let ran = run(&["check", &policy, "--set", "max_fragments=7", "--set", "hosts=[\"a.example\"]"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("max_fragments                7") && ran.out.contains(r#"["a.example"]"#), "{}", ran.out);
    for (wrong, words) in [
        ("max_fragments", "--set needs"),
        ("max_fragments=0", "--set: invalid_option: max_fragments"),
        ("x=1", "unknown"),
    ] {
        let ran = run(&["check", &policy, "--set", wrong]);
        assert!(ran.code == Some(2) && ran.err.contains(words), "{ran:?}");
    }
}

#[test]
fn files_with_secrets_are_the_owners_alone() {
    let scratch = Scratch::new("modes");
    let policy = scratch.file(
        "policy.json",
        GOOD.replace(
            "\"sha256\": \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
            "\"token\": \"9f86d081884c7d659a2feaa0c55ad015\"",
        ),
    );
    assert_eq!(run(&["check", &policy]).code, Some(0));
    mode(std::path::Path::new(&policy), 0o644);
    let ran = run(&["check", &policy]);
    assert!(ran.code == Some(1) && ran.out.contains("is read by everybody"), "{ran:?}");
}

/// What lies there is somebody else's choice: it is refused at once, with one line and without a panic.
#[test]
fn hostile_files_are_refused() {
    let scratch = Scratch::new("hostile");
    let deep = format!(r#"{{"events": {}"#, "[".repeat(1_000_000));
    let nested = format!(r#"{{"events": {{"a": {{"schema": {}{}}}}}}}"#, r#"{"not":"#.repeat(100_000), "1");
    let many = format!(r#"{{"origins": [{}]}}"#, "\"https://a.example\",".repeat(200_000));
    let names = (0..100_000).map(|index| format!("\"{index}\": {index},")).collect::<String>();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("deep", deep.into_bytes()),
        ("nested", nested.into_bytes()),
        ("many", many.into_bytes()),
        ("names", format!("{{{names}\"x\": 1}}").into_bytes()),
        ("huge", vec![b' '; 17 * 1024 * 1024]),
        ("binary", (0..=255).cycle().take(100_000).collect()),
        ("nul", b"\0\0\0\0".to_vec()),
        ("number", b"1e999999999".to_vec()),
        ("array", b"[]".to_vec()),
        ("escapes", b"{\"\\u001b[31m\": 1}".to_vec()),
        ("deep.toml", format!("a = {}", "[".repeat(100_000)).into_bytes()),
        ("keys.toml", format!("{} = 1", "a.".repeat(50_000) + "a").into_bytes()),
    ] {
        let ran = run(&["check", &scratch.file(name, bytes)]);
        assert_eq!(ran.code, Some(2), "{name}: {ran:?}");
        assert!(ran.out.is_empty() && ran.err.lines().count() == 1 && ran.err.len() < 2000, "{name}: {ran:?}");
        assert!(!ran.err.contains(['\u{1b}', '\0']), "{name}: {ran:?}");
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let scratch = Scratch::new("fifo");
    let fifo = scratch.path("fifo").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_str(), "/dev/zero", "/", "/no/such/file"] {
        let ran = run(&["check", path]);
        assert!(ran.code == Some(2) && ran.err.lines().count() == 1, "{path}: {ran:?}");
    }
}

/// As `<(…)` of a shell: what was read once is gone.
#[test]
fn a_certificate_that_comes_by_a_pipe_is_read_once() {
    let scratch = Scratch::new("certificate");
    let key = rcgen::KeyPair::generate().unwrap();
    let names = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
    let certificate = names.self_signed(&key).unwrap().pem();
    let tls = serde_json::json!({"cert": "/dev/stdin", "key": key.serialize_pem()});
    let policy = serde_json::json!({"listen": "127.0.0.1:0", "origins": ["https://app.example"], "auth": "callback", "tls": tls});
    let ran = run_with(&["check", &scratch.file("policy.json", policy.to_string())], certificate.as_bytes());
    assert!(ran.code != Some(2) && ran.out.contains("names itself as its issuer"), "{ran:?}");
}

#[test]
fn a_reader_that_has_left_is_no_fault() {
    let mut child =
        common::wsguard(&["check", "--all", &format!("{}/tests/golden/good.json", env!("CARGO_MANIFEST_DIR"))])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.code() == Some(0) && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn every_help_has_an_example_and_the_exit_codes() {
    for command in [&["check"][..], &["doctor"], &["serve"], &["token", "make"], &["token", "inspect"]] {
        let ran = run(&[command, &["--help"]].concat());
        assert!(ran.code == Some(0) && ran.out.contains("Example") && ran.out.contains("Exit codes:"), "{ran:?}");
    }
}

/// Whoever shares a pipe may have made it non-blocking, as programs of Node do: nothing is cut, and nothing fails.
#[test]
fn pipes_that_do_not_block_are_waited_for() {
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    let events: Vec<String> =
        (0..4000).map(|number| format!("\"some-event-with-a-long-name-{number}\": {{}}")).collect();
    let policy = GOOD.trim_end().strip_suffix('}').unwrap().trim_end().to_owned();
    let policy = format!("{policy}, \"routes\": {{\"/r\": {{\"events\": {{{}}}}}}}}}", events.join(","));
    let pair = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, OwnedFd::from(theirs))
    };
    let ((mut input, stdin), (mut output, stdout)) = (pair(), pair());
    let mut child = common::wsguard(&["check", "-", "--json"]).stdin(stdin).stdout(stdout).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    input.write_all(policy.as_bytes()).unwrap();
    drop(input);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut told = String::new();
    output.read_to_string(&mut told).unwrap();
    assert!(told.len() > 300_000, "{}", told.len());
    assert!(serde_json::from_str::<Value>(&told).unwrap()["warnings"].is_array());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
