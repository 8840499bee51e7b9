//! A flood of violations does not become a flood of log records, and nothing in a record is a peer's line (S6). A log that
//! cannot be written, or that nobody reads, is nobody's trouble.

use std::time::{Duration, Instant};

use serde_json::Value;
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::honest::Honest;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::Signal;
use wsguard_test_support::setup::Log;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::policy::{SLACK, evil, policy};

const FLOOD: u64 = 3000;
/// Looks like a record of its own, with colours.
const FORGERY: &str = "x\r\n2026-01-01T00:00:00Z WARN wsguard::verdict: code=forged ip=9.9.9.9 \u{1b}[31m";

pub(crate) fn flood(ground: &Ground) -> Outcome<String> {
    let mut host = policy().with_events().start(&ground.run)?;
    let honest = Honest::start(&host.target, 2)?;
    host.log_so_far();
    let began = Instant::now();
    let flooders = (0..4).map(|_| {
        let target = host.target.clone();
        std::thread::spawn(move || (0..FLOOD / 4).try_for_each(|_| malformed(&target)))
    });
    for flooder in flooders.collect::<Vec<_>>() {
        flooder.join().map_err(|_| Failure("a flooder panicked".into()))??;
    }
    for _ in 0..20 {
        let mut client = Client::open(&host.target, Dial::default(), &evil())?;
        client.emit(FORGERY, &Value::Null)?;
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1008, "an unknown event was closed with {code}");
    }
    host.until("verdicts.handshake_malformed", PATIENCE, |count| count == FLOOD)?;
    let seconds = began.elapsed().as_secs_f64();
    let log = host.log_so_far();
    let records = log.iter().filter(|line| line.contains("handshake_malformed")).count();
    ensure!(records >= 1, "nothing was logged");
    ensure!(records as f64 <= 12.0 + seconds, "{records} records of {FLOOD} violations in {seconds:.1} s");
    ensure!(log.iter().any(|line| line.contains("unknown_event")), "the unknown event was not logged");
    let forged = log.iter().find(|line| line.contains(['\r', '\u{1b}']) || line.starts_with("2026-01-01T00:00:00Z"));
    ensure!(forged.is_none(), "a peer wrote into the log: {forged:?}");
    ensure!(!log.iter().any(|line| line.contains("ip=9.9.9.9 ")), "a peer forged an address in the log");
    let told = told(&host);
    ensure!(told as f64 <= 1100.0 + 100.0 * seconds, "the application was told {told} times");
    let suppressed = says_how_many_are_missing(&mut host)?;
    let seen = honest.finish()?;
    Ok(format!("{FLOOD} violations, {records} records, {told} events, then suppressed={suppressed}; {seen}"))
}

/// A request that is none; the refusal is read, so that it counts.
fn malformed(target: &Target) -> Outcome {
    let mut client = Client::over(target.connect(Dial::from_host(77))?);
    client.send(b"GET / HTTP/1.1\nHost: localhost\n\n\r\n\r\n")?;
    let status = client.answer(PATIENCE)?.status;
    ensure!(status == 400, "a malformed request was answered {status}");
    Ok(())
}

fn told(host: &Host) -> usize {
    let events = host.events_so_far();
    events.iter().filter(|event| event["type"] == "violation" && event["code"] == "handshake_malformed").count()
}

/// Standard error is closed, full, broken or stuck: who breaks rules is thrown out, honest clients lose nothing, newcomers
/// come in, and the end is told to everybody and comes in time.
pub(crate) fn unwritable(ground: &Ground) -> Outcome<String> {
    const LOGS: [Log; 5] = [Log::Closed, Log::FullDisk, Log::BrokenPipe, Log::FullPipe, Log::FullPipeThatDoesNotBlock];
    let mut seen = Vec::new();
    for log in LOGS {
        let echoes = serve_without_a_log(ground, log).map_err(|failure| failure.during(format_args!("{log:?}")))?;
        seen.push(format!("{log:?}: {echoes}"));
    }
    Ok(seen.join("; "))
}

fn serve_without_a_log(ground: &Ground, log: Log) -> Outcome<u64> {
    let mut host = policy().log(log).start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    for _ in 0..12 {
        let mut client = Client::open(&host.target, Dial::default(), &evil())?;
        client.send(b"\x81\x02hi")?;
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1002, "an unmasked frame was closed with {code}");
        malformed(&host.target)?;
    }
    honest.keep_going()?;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(Client::open(&host.target, Dial::default(), &evil())?);
    }
    host.until("verdicts.bad_frame", PATIENCE, |count| count == 12)?;
    let echoes = honest.finish()?.echoes;
    host.group.signal(Signal::SIGTERM)?;
    for client in &mut waiting {
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1012, "closed with {code}");
    }
    let code = host.exit_code(Duration::from_secs(5) + SLACK)?;
    ensure!(code == 0, "exit code {code}");
    Ok(echoes)
}

/// What was said last is in the log when the process has ended.
pub(crate) fn last_words(ground: &Ground) -> Outcome<String> {
    let mut host = policy().start(&ground.run)?;
    let mut client = Client::open(&host.target, Dial::default(), &evil())?;
    host.group.signal(Signal::SIGTERM)?;
    let (code, _) = client.closed(PATIENCE)?;
    ensure!(code == 1012, "closed with {code}");
    drop(client);
    let code = host.exit_code(Duration::from_secs(5) + SLACK)?;
    ensure!(code == 0, "exit code {code}");
    let mut log = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !log.iter().any(|line: &String| line.contains("code=draining ip=127.")) {
        ensure!(Instant::now() < deadline, "the last record is not in the log: {log:?}");
        std::thread::sleep(Duration::from_millis(2));
        log.extend(host.log_so_far());
    }
    Ok(format!("{} lines", log.len()))
}

/// The next record says how many were left out.
fn says_how_many_are_missing(host: &mut Host) -> Outcome<u64> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(300));
        malformed(&host.target)?;
        for line in host.log_so_far() {
            let number = line.split("suppressed=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            if line.contains("handshake_malformed") && number > Some(0) {
                return Ok(number.unwrap_or_default());
            }
        }
    }
    Err(Failure("no record says how many were suppressed".into()))
}
