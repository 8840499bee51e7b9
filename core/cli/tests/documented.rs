//! docs/COMMAND.md: its examples run, and what it says that `check` prints is what `check` prints.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Scratch;
use serde_json::json;

const GUIDE: &str = include_str!("../../../docs/COMMAND.md");

/// The console blocks, each as its lines.
fn blocks() -> Vec<Vec<&'static str>> {
    GUIDE.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap().lines().collect()).collect()
}

/// The files that the examples name.
fn files(scratch: &Scratch) {
    let policy = json!({
        "listen": "127.0.0.1:8080",
        "origins": ["https://app.example"],
        "auth": {"tokens": [{"token": "hunter2", "user": "alice"}]},
        "events": {"say": {}},
    });
    scratch.file("policy.json", policy.to_string());
    scratch.file("wrong.json", r#"{"orgins": ["https://app.example"]}"#);
    let jwt =
        json!({"algorithms": ["HS256"], "key": "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKw", "roles_claim": "roles"});
    scratch.file("jwt.json", json!({"origins": ["https://app.example"], "auth": {"jwt": jwt}}).to_string());
    scratch.file("private.pem", rcgen::KeyPair::generate().unwrap().serialize_pem());
}

/// Runs the line in a shell, in the directory of the files.
fn shell(line: &str, scratch: &Scratch) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_wsguard");
    let line = format!("wsguard() {{ \"{program}\" \"$@\"; }}; {line}");
    let ran = std::process::Command::new("sh").args(["-c", &line]).current_dir(scratch.path("")).output().unwrap();
    (ran.status.code(), String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap())
}

#[test]
fn examples_run_and_print_what_the_guide_says() {
    let scratch = Scratch::new("documented");
    files(&scratch);
    let (mut compared, mut run) = (0, 0);
    for block in blocks() {
        // Servers, and URLs of others, are for the tests of `serve` and `doctor`.
        if block[0].contains("serve") || block[0].contains("--url") {
            continue;
        }
        let output: Vec<&str> = block.iter().copied().filter(|line| !line.starts_with("$ ")).collect();
        for line in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
            let (code, printed) = shell(line, &scratch);
            run += 1;
            if output.is_empty() {
                // `doctor` finds that the policy has no `trusted_proxies`.
                assert!(code == Some(0) || line.contains("doctor") && code == Some(1), "{line}: {code:?} {printed}");
            } else {
                assert_eq!(printed.lines().collect::<Vec<_>>(), output, "{line}");
                compared += 1;
            }
        }
    }
    assert!(compared == 2 && run == 9, "{compared} {run}");
}

#[test]
fn every_subcommand_and_every_option_that_the_guide_names_is_there() {
    let helps: String = ["", "check", "token make", "token inspect", "serve", "doctor"]
        .iter()
        .map(|command| {
            let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
            common::run(&arguments).out
        })
        .collect();
    let words = GUIDE.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
    let options: Vec<&str> =
        words.filter(|word| word.starts_with("--") && word.len() > 3 && *word != "--help").collect();
    assert!(options.len() > 20, "{options:?}");
    for option in options {
        assert!(helps.contains(option), "{option} is in no help");
    }
}
