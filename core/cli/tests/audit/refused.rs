//! What is refused before anything is sent, and what is said first.

use super::{TOKEN, audit};

fn said(arguments: &[&str]) -> (i32, String) {
    let output = audit(arguments);
    let all = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn a_server_of_somebody_else() {
    // An address for documentation (RFC 5737): nobody is there.
    let (code, text) = said(&["ws://192.0.2.1/"]);
    assert_eq!(code, 2);
    assert!(text.contains("--i-am-responsible-for 192.0.2.1"), "{text}");
    let (code, text) = said(&["ws://192.0.2.1/", "--i-am-responsible-for", "192.0.2.1", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(text.contains("at most") && text.contains("origin-foreign"), "{text}");
}

#[test]
fn options_that_make_no_sense() {
    for (arguments, word) in [
        (&["ws://127.0.0.1:1/", "--only", "no-such-check"][..], "no-such-check"),
        (&["ws://127.0.0.1:1/", "--rate", "0"], "--rate"),
        (&["ws://127.0.0.1:1/", "--patience", "100000"], "--patience"),
        (&["ws://127.0.0.1:1/", "--header", "novalue"], "--header"),
        (&["ws://127.0.0.1:1/", "--token", "env:NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (&["ws://127.0.0.1:1/", "--origin", "https://a\r\nX: y"], "--origin"),
        (&["ws://127.0.0.1:1/", "--library", "none"], "--library"),
        (&["ws://127.0.0.1:1/", "--ca", "no-such-file.pem"], "--ca no-such-file.pem"),
        (&["ws://user:secret@127.0.0.1:1/"], "--header"),
        (&["ftp://127.0.0.1/"], "scheme"),
    ] {
        let (code, text) = said(arguments);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}

#[test]
fn nobody_listens() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = said(&[&format!("ws://{closed}/"), "--header", &format!("X-Key: {TOKEN}"), "--timeout", "1"]);
    assert_eq!(code, 2);
    assert!(text.contains("cannot be reached") && !text.contains(TOKEN), "{text}");
}

#[test]
fn the_plan_comes_first_and_hides_the_query() {
    let (code, text) = said(&["ws://127.0.0.1:1/ws?token=very-secret", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(text.contains("ws://127.0.0.1:1/ws") && !text.contains("very-secret"), "{text}");
    let (code, text) = said(&["--list"]);
    assert_eq!(code, 0);
    assert!(text.lines().count() > 30, "{text}");
}
