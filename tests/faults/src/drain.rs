//! The end of a server that has work (THREATS S10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::TOKEN;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::Signal;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::policy::{SLACK, evil, policy};

/// What the hosts give a drain.
const DEADLINE: Duration = Duration::from_millis(5000);
const QUEUED: u64 = 20;

/// SIGTERM while clients wait for delayed messages and others talk: all that was taken is delivered, everybody is told
/// 1012, and the process ends well.
pub(crate) fn sigterm_under_load(ground: &Ground) -> Outcome<String> {
    let setup = policy()
        .option("events", json!({"echo": {"cost": 0}, "join": {"cost": 0}, "say": {}}))
        .option("rate_limit", json!({"per_second": 10, "burst": 1, "queue": 20, "key": "connection"}));
    let mut host = setup.with_events().start(&ground.run)?;
    let echoes = Arc::<AtomicU64>::default();
    let load = (0..20).map(|_| talker(&host.target, &echoes)).collect::<Outcome<Vec<_>>>()?;
    let mut waiting = Vec::new();
    for member in 0..40 {
        let mut client = Client::open(&host.target, Dial::default(), &evil())?;
        client.emit("join", &json!({"room": format!("room {member}")}))?;
        client.event(PATIENCE)?;
        waiting.push(client);
    }
    for (member, client) in waiting.iter_mut().enumerate() {
        for number in 0..QUEUED {
            client.emit("say", &said(member, number))?;
        }
    }
    host.until("delayed", PATIENCE, |delayed| delayed >= 40 * 8)?;
    ensure!(echoes.load(Ordering::Relaxed) > 0, "the load had not begun");
    host.group.signal(Signal::SIGTERM)?;
    let began = Instant::now();
    for (member, client) in waiting.iter_mut().enumerate() {
        for number in 0..QUEUED {
            let event = client.event(PATIENCE).map_err(|failure| failure.during(format_args!("queued {number}")))?;
            ensure!(event["data"] == said(member, number), "queued {number} of {member}, came {event}");
        }
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1012, "closed with {code}");
    }
    for talker in load {
        let code = talker.join().map_err(|_| Failure("a talker panicked".into()))??;
        ensure!(code == 1012, "a talker was closed with {code}");
    }
    let told = began.elapsed();
    drop(waiting);
    let code = host.exit_code(DEADLINE + SLACK)?;
    let ended = began.elapsed();
    ensure!(code == 0, "exit code {code}: {}", host.log_tail());
    ensure!(ended < DEADLINE + SLACK, "ended only after {} ms", ended.as_millis());
    Ok(format!(
        "{} queued messages delivered, {} echoes of the load; all told after {} ms, exit 0 after {} ms",
        40 * QUEUED,
        echoes.load(Ordering::Relaxed),
        told.as_millis(),
        ended.as_millis()
    ))
}

fn said(member: usize, number: u64) -> Value {
    json!({"room": format!("room {member}"), "text": format!("{number}")})
}

/// A client that echoes until it is closed, and says with which code. Every answer must be the next one.
fn talker(target: &Target, echoes: &Arc<AtomicU64>) -> Outcome<std::thread::JoinHandle<Outcome<u16>>> {
    let mut client = Client::open(target, Dial::default(), &Opening::with_token(TOKEN))?;
    let echoes = Arc::clone(echoes);
    Ok(std::thread::spawn(move || {
        for number in 0_u64.. {
            // The server may close between two messages.
            let sent = client.emit("echo", &json!(number));
            let frame = client.frame(PATIENCE)?;
            if frame.opcode == frame::CLOSE {
                let _ = client.send(&frame::encode(frame::CLOSE, &frame.payload));
                client.gone(PATIENCE)?;
                return Ok(frame.close_code().0);
            }
            sent?;
            let echo: Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
            ensure!(echo["data"] == number, "echo {number} came back as {echo}");
            echoes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(0)
    }))
}

/// `drain` with a jitter: 1012 spread over it, 503 for newcomers meanwhile, exit 0.
pub(crate) fn jitter(ground: &Ground) -> Outcome<String> {
    const JITTER: Duration = Duration::from_millis(1500);
    let mut host = policy().start(&ground.run)?;
    let mut closing = Vec::new();
    for _ in 0..100 {
        let mut client = Client::open(&host.target, Dial::default(), &evil())?;
        closing.push(std::thread::spawn(move || client.closed(PATIENCE).map(|(code, _)| (code, Instant::now()))));
    }
    let began = Instant::now();
    // Its answer may come when all is over.
    host.tell(&json!({"do": "drain", "timeout_ms": 5000, "jitter_ms": JITTER.as_millis() as u64}))?;
    while newcomer(&host.target)? != 503 {
        ensure!(began.elapsed() < JITTER, "newcomers are still accepted while draining");
    }
    let mut prober = Client::over(host.target.connect(Dial::default())?);
    prober.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let health = prober.answer(PATIENCE)?.status;
    ensure!(health == 503, "/healthz answered {health} while draining");
    let mut times = Vec::new();
    for thread in closing {
        let (code, at) = thread.join().map_err(|_| Failure("a client panicked".into()))??;
        ensure!(code == 1012, "closed with {code}");
        times.push(at.saturating_duration_since(began));
    }
    times.sort_unstable();
    let (first, last) = (times[0], times[times.len() - 1]);
    ensure!(last < JITTER + SLACK, "the last was told after {} ms", last.as_millis());
    let spread = last.saturating_sub(first);
    ensure!(spread > JITTER / 3, "all were told within {} ms: no jitter", spread.as_millis());
    let code = host.exit_code(DEADLINE + SLACK)?;
    ensure!(code == 0, "exit code {code}: {}", host.log_tail());
    Ok(format!("100 told between {} and {} ms, exit 0", first.as_millis(), last.as_millis()))
}

/// The answer to a handshake.
fn newcomer(target: &Target) -> Outcome<u16> {
    let mut client = Client::over(target.connect(Dial::default())?);
    client.send(&evil().bytes())?;
    Ok(client.answer(Duration::from_millis(1500))?.status)
}

/// As long as one connection is left, newcomers are answered 503, whichever shard has nothing to do any more.
pub(crate) fn idle_shard(ground: &Ground) -> Outcome<String> {
    for kept in 0..2 {
        let mut host = policy().start(&ground.run)?;
        let first = Client::open(&host.target, Dial::default(), &evil())?;
        let second = Client::open(&host.target, Dial::default(), &evil())?;
        let (left, mut kept_client) = if kept == 0 { (second, first) } else { (first, second) };
        left.leave()?;
        host.until("open", PATIENCE, |open| open == 1)?;
        host.tell(&json!({"do": "drain", "timeout_ms": 5000, "jitter_ms": 0}))?;
        // It does not answer this, so that the server waits for it for `close_timeout_ms`, two seconds.
        let (code, _) = kept_client.frame(PATIENCE)?.close_code();
        ensure!(code == 1012, "closed with {code}");
        let told = Instant::now();
        for number in 0..4 {
            let status = newcomer(&host.target).map_err(|failure| {
                failure.during(format_args!("newcomer {number} while connection {kept} of 2 is left"))
            })?;
            ensure!(status == 503, "a newcomer was answered {status} while draining");
        }
        // What came so late says nothing.
        ensure!(told.elapsed() < Duration::from_millis(1900), "the machine is too slow for this test");
        drop(kept_client);
        let code = host.exit_code(DEADLINE + SLACK)?;
        ensure!(code == 0, "exit code {code}: {}", host.log_tail());
    }
    Ok("8 newcomers answered 503".into())
}
