//! A handler that fails (THREATS S5), and a user who has to go (A7).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::crowd;
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::Honest;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::Dial;

use crate::policy::{EVIL_USER, SLACK, evil, policy};

/// Handlers that throw close their own connection with 1011 and nothing else.
pub(crate) fn handler_throws(ground: &Ground) -> Outcome<String> {
    let mut host = policy().start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    for _ in 0..50 {
        let mut client = Client::open(&host.target, Dial::default(), &evil())?;
        client.emit("throw", &Value::Null)?;
        client.emit("echo", &json!("behind the fault"))?;
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1011, "closed with {code}");
    }
    let counted = host.stat("verdicts.internal")?;
    ensure!(counted == 50, "{counted} of 50 faults were counted as internal");
    ensure!(host.is_alive(), "the process is gone");
    let log = host.log_so_far();
    ensure!(log.iter().any(|line| line.contains("internal")), "no fault was logged");
    host.until("open", PATIENCE, |open| open == 4)?;
    let seen = honest.finish()?;
    Ok(format!("50 closed with 1011; {seen}"))
}

/// `disconnect_user` reaches a thousand connections at once.
pub(crate) fn disconnect_user(ground: &Ground) -> Outcome<String> {
    let mut host = policy().start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    let mut clients = crowd::open(&host.target, 1000, &evil())?;
    let began = Instant::now();
    host.command(&json!({"do": "disconnect_user", "user": EVIL_USER}))?;
    for client in &mut clients {
        let frame = client.frame(PATIENCE)?;
        let code = frame.close_code().0;
        ensure!(frame.opcode == frame::CLOSE && code == 1008, "opcode {} code {code}", frame.opcode);
    }
    let told = began.elapsed();
    ensure!(told < Duration::from_millis(100) + SLACK, "the last was told after {} ms", told.as_millis());
    drop(clients);
    host.until("open", PATIENCE, |open| open == 4)?;
    let counted = host.stat("verdicts.session_revoked")?;
    ensure!(counted == 1000, "{counted} of 1000 were counted as session_revoked");
    let seen = honest.finish()?;
    Ok(format!("1000 told within {} ms; {seen}", told.as_millis()))
}
