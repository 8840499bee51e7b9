//! Before 101: wrong origins and credentials, malformed and slow heads, handshakes that are asked for and left.

use std::io::Write;
use std::time::{Duration, Instant};

use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::wire::Wire;
use wsguard_test_support::{ensure, frame};

use super::{Act, Attacker, abandon, gone, is_silence};
use crate::policy::Policy;

pub(super) const ACTS: &[Act] = &[
    Act { name: "wrong-origin", run: wrong_origin },
    Act { name: "no-token", run: no_token },
    Act { name: "wrong-token", run: wrong_token },
    Act { name: "odd-credential", run: odd_credential },
    Act { name: "malformed-head", run: malformed_head },
    Act { name: "second-request", run: second_request },
    Act { name: "frames-before-101", run: frames_before_101 },
    Act { name: "slowloris", run: slowloris },
    Act { name: "ask-and-leave", run: ask_and_leave },
    Act { name: "silent-sockets", run: silent_sockets },
    Act { name: "garbage-first", run: garbage_first },
];

fn wrong_origin(attacker: &mut Attacker<'_>) -> Outcome {
    let origins = [
        "https://evil.example",
        "https://app.example.com.evil.io",
        "https://evilapp.example.com",
        "https://app.example.com@evil.io",
        "http://app.example.com",
        "https://app.example.com:8443",
        "null",
        "file://",
        "https://app.example.com/path",
        "https://app.example.com.",
    ];
    let origin = *attacker.dice.pick(&origins);
    let token = attacker.policy.evil_token(0);
    let opening = Opening::bare().header("Origin", origin).header("X-Auth-Token", &token);
    attacker.refused(&opening.bytes(), &[403, 400])
}

fn no_token(attacker: &mut Attacker<'_>) -> Outcome {
    attacker.refused(&Opening::bare().header("Origin", ORIGIN).bytes(), &[401])
}

fn wrong_token(attacker: &mut Attacker<'_>) -> Outcome {
    let noise = attacker.dice.within(0..u64::MAX);
    attacker.refused(&Opening::with_token(&format!("{noise:x}")).bytes(), &[401])
}

/// What makes the application's callback throw, answer oddly, or never answer; anybody else's wrong tokens.
fn odd_credential(attacker: &mut Attacker<'_>) -> Outcome {
    let (token, status) = *attacker.dice.pick(&[("boom", 503), ("hang", 503), ("teapot", 418)]);
    let statuses = if attacker.policy == Policy::Callback { [status] } else { [401] };
    attacker.refused(&Opening::with_token(token).bytes(), &statuses)
}

fn malformed_head(attacker: &mut Attacker<'_>) -> Outcome {
    let good = String::from_utf8_lossy(&attacker.opening().bytes()).into_owned();
    let with = |line: &str| good.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1);
    let heads: [(String, u16); 15] = [
        (with(&format!("Origin: {ORIGIN}")), 400),
        (with("Host: localhost"), 400),
        (with("Content-Length: 5"), 400),
        (with("Transfer-Encoding: chunked"), 400),
        (with("X-Folded: a\r\n b"), 400),
        (with("Space : before the colon"), 400),
        (with("X-Nul: \0"), 400),
        (with(&"X-Many: 1\r\n".repeat(200)), 431),
        (with(&format!("X-Long: {}", "x".repeat(20_000))), 431),
        (good.replacen("Host: localhost\r\n", "", 1), 400),
        (good.replacen("dGhlIHNhbXBsZSBub25jZQ==", "short", 1), 400),
        (good.replacen("Version: 13", "Version: 8", 1), 426),
        (good.replacen("GET", "POST", 1), 405),
        (good.replacen("HTTP/1.1", "HTTP/1.0", 1), 505),
        (good.replacen("GET /", &format!("GET /{}", "a".repeat(9000)), 1), 414),
    ];
    let (head, status) = attacker.dice.pick(&heads);
    attacker.refused(head.as_bytes(), &[*status, 400])
}

/// A good request behind a refused one must never be answered.
fn second_request(attacker: &mut Attacker<'_>) -> Outcome {
    let mut requests = Opening::with_token("wrong").bytes();
    requests.extend(attacker.opening().bytes());
    attacker.refused(&requests, &[401])
}

/// Messages in the same segment as the request: served behind the 101, or refused with it.
fn frames_before_101(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut client) = attacker.socket() else { return Ok(()) };
    let mut bytes = attacker.opening().bytes();
    bytes.extend(frame::encode(frame::TEXT, br#"{"event":"echo","data":"early"}"#));
    let status = super::status_of(&mut client, &bytes)?;
    if status != Some(101) {
        return Ok(());
    }
    match client.event(PATIENCE) {
        Ok(echo) => ensure!(echo["data"] == "early", "an early message came back as {echo}"),
        Err(failure) => ensure!(!is_silence(&failure), "an early message was not served"),
    }
    Ok(())
}

/// Twenty heads, a byte now and then: over at `handshake_timeout_ms`.
fn slowloris(attacker: &mut Attacker<'_>) -> Outcome {
    let head = attacker.opening().bytes();
    let mut slow = Vec::new();
    for sent in 1..=20 {
        let Some(mut tcp) = attacker.tcp() else { continue };
        let _ = tcp.write_all(&head[..sent]);
        slow.push((tcp, sent));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) && !attacker.stops() {
        for (tcp, sent) in &mut slow {
            let _ = head.get(*sent).map(|byte| tcp.write(&[*byte]));
            *sent = (*sent + 1).min(head.len() - 1);
        }
        attacker.dice.pause(200..300);
    }
    if attacker.stops() {
        return Ok(());
    }
    slow.into_iter().try_for_each(|(tcp, _)| gone(&mut Client::over(Wire::Tcp(tcp))))
}

/// Handshakes that are left while they are decided.
fn ask_and_leave(attacker: &mut Attacker<'_>) -> Outcome {
    for _ in 0..30 {
        let Some(mut client) = attacker.socket() else { continue };
        let opening = match attacker.dice.within(0..4) {
            0 => Opening::with_token("hang"),
            1 => Opening::with_token("boom"),
            _ => attacker.opening(),
        };
        let _ = client.send(&opening.bytes());
        attacker.dice.pause(0..5);
        abandon(client.wire, attacker.dice.within(0..3) > 0);
    }
    // What they left behind must not keep others waiting.
    attacker.open().map(drop)
}

/// Sockets that say nothing, and leave before they are asked to, or stay until they must.
fn silent_sockets(attacker: &mut Attacker<'_>) -> Outcome {
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.extend(attacker.tcp());
    }
    if attacker.dice.within(0..4) == 0 {
        return silent.into_iter().try_for_each(|tcp| gone(&mut Client::over(Wire::Tcp(tcp))));
    }
    attacker.dice.pause(100..1500);
    for tcp in silent {
        abandon(Wire::Tcp(tcp), attacker.dice.within(0..2) == 0);
    }
    Ok(())
}

/// Noise, where a head or a `ClientHello` should be: over at once, or at `handshake_timeout_ms`.
fn garbage_first(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut tcp) = attacker.tcp() else { return Ok(()) };
    let count = attacker.dice.within(1..20_000);
    let _ = tcp.write_all(&attacker.dice.bytes(count));
    gone(&mut Client::over(Wire::Tcp(tcp)))
}
