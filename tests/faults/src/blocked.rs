//! The application blocks (THREATS S4): everybody else's pings, timeouts and violations go on, and what floods in
//! meanwhile is left in the socket instead of in memory.
//!
//! While a host is blocked it is not asked for its counters: in some languages the same thread would answer.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::Honest;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::Dial;

use crate::policy::{SLACK, evil, policy};

const BLOCKED: Duration = Duration::from_secs(5);
const INBOX: usize = 1024 * 1024;
/// More than the sockets' own buffers can take.
const FLOOD_MESSAGES: usize = 6000;
const FLOOD_BYTES: usize = 16 * 1024;

pub(crate) fn application_blocked(ground: &Ground) -> Outcome<String> {
    let setup = policy().option("max_inbox_bytes", INBOX).option("max_outbox_bytes", 256 * 1024 * 1024);
    let mut host = setup.option("ping_interval_ms", 300).option("idle_timeout_ms", 1500).start(&ground.run)?;
    let target = host.target.clone();
    let honest = Honest::start(&target, 2)?;
    let open = || Client::open(&target, Dial::default(), &evil());
    let (mut blocker, mut watcher, mut silent) = (open()?, open()?, open()?);
    let mut violators = [(open()?, 1002), (open()?, 1008), (open()?, 1003)];
    let mut flooder = open()?;
    flooder.emit("join", &json!({"room": "flood"}))?;
    flooder.event(PATIENCE)?;
    let before = host.group.resident_kib();

    blocker.emit("block", &json!({"ms": BLOCKED.as_millis() as u64}))?;
    let began = Instant::now();
    let unblocked = std::thread::spawn(move || blocker.event(PATIENCE).map(|event| (event, began.elapsed())));
    // The block must have begun before anything else is in front of it.
    std::thread::sleep(Duration::from_millis(200));
    let flood = Flood::start(flooder)?;
    violators[0].0.send(b"\x81\x02hi")?;
    violators[1].0.emit("no such event", &Value::Null)?;
    violators[2].0.send(&frame::encode(frame::BINARY, b"bytes"))?;
    for (client, expected) in &mut violators {
        let (code, _) = client.closed(BLOCKED.saturating_sub(began.elapsed()))?;
        ensure!(code == *expected, "a violation that wants {expected} was closed with {code}");
    }
    let enforced = began.elapsed();
    watcher.send(&frame::encode(frame::PING, b"are you there"))?;
    let (mut pings, mut pongs) = (0, 0);
    while pings < 2 || pongs < 1 {
        let frame = watcher.frame(BLOCKED.saturating_sub(began.elapsed()))?;
        pings += u32::from(frame.opcode == frame::PING);
        pongs += u32::from(frame.opcode == frame::PONG && frame.payload == b"are you there");
        watcher.send(&frame::encode(frame::PONG, b""))?;
    }
    let (code, _) = silent.closed(BLOCKED.saturating_sub(began.elapsed()))?;
    ensure!(code == 1011, "a silent peer was closed with {code}");
    let found = began.elapsed();
    ensure!(found < BLOCKED, "a silent peer was found only when the application was back");

    let stalled_at = flood.stall(began + BLOCKED)?;
    let grown = host.group.resident_kib().saturating_sub(before) / 1024;
    ensure!(grown < 24, "memory grew by {grown} MiB while the application was blocked");
    let (back, after) = unblocked.join().map_err(|_| Failure("the blocker panicked".into()))??;
    ensure!(back["event"] == "unblocked" && after >= BLOCKED, "after {} ms came {back}", after.as_millis());
    ensure!(after < BLOCKED + SLACK, "the application was back only after {} ms", after.as_millis());
    flood.all_came_back()?;
    host.until("inbox_bytes", PATIENCE, |bytes| bytes < 64 * 1024)?;
    let seen = honest.finish()?;
    Ok(format!(
        "violations answered after {} ms, silence after {} ms; the flood stopped at {} MiB, memory grew by {grown} MiB, \
         all {FLOOD_MESSAGES} came back; {seen}",
        enforced.as_millis(),
        found.as_millis(),
        stalled_at >> 20
    ))
}

/// A client that says more than fits, and reads what comes back.
struct Flood {
    written: Arc<AtomicUsize>,
    total: usize,
    writer: std::thread::JoinHandle<Outcome>,
    reader: std::thread::JoinHandle<Outcome>,
}

fn said(number: usize) -> Value {
    json!({"room": "flood", "text": format!("{number:0FLOOD_BYTES$}")})
}

impl Flood {
    fn start(mut client: Client) -> Outcome<Self> {
        client.wire.socket().set_send_buffer_size(64 * 1024)?;
        let mut tcp = client.wire.as_tcp().ok_or_else(|| Failure("no TCP".into()))?.try_clone()?;
        let written = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&written);
        let writer = std::thread::spawn(move || {
            for number in 0..FLOOD_MESSAGES {
                let message = json!({"event": "say", "data": said(number)}).to_string();
                tcp.write_all(&frame::encode(frame::TEXT, message.as_bytes()))?;
                count.fetch_add(message.len(), Ordering::Relaxed);
            }
            Ok(())
        });
        let reader = std::thread::spawn(move || {
            for number in 0..FLOOD_MESSAGES {
                // Pings wait until the writer is done: a pong in the middle of its frame would break it.
                let event = loop {
                    let frame = client.frame(PATIENCE)?;
                    match frame.opcode {
                        frame::PING | frame::PONG => {}
                        frame::CLOSE => {
                            return Err(Failure(format!("the flood was closed with {:?}", frame.close_code())));
                        }
                        _ => break serde_json::from_slice::<Value>(&frame.payload).unwrap_or_default(),
                    }
                };
                ensure!(event["data"] == said(number), "flood message {number} did not come back in its place");
            }
            Ok(())
        });
        Ok(Self { written, total: FLOOD_MESSAGES * FLOOD_BYTES, writer, reader })
    }

    /// Waits until the server has not taken anything for a while; how much it took. It must be so before `until`.
    fn stall(&self, until: Instant) -> Outcome<usize> {
        let mut last = (self.written.load(Ordering::Relaxed), Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.written.load(Ordering::Relaxed);
            ensure!(now < self.total, "the whole flood of {} MiB was taken", self.total >> 20);
            ensure!(Instant::now() < until, "the flood was still being read when the application came back");
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > Duration::from_millis(700) {
                return Ok(now);
            }
        }
    }

    fn all_came_back(self) -> Outcome {
        for thread in [self.writer, self.reader] {
            thread.join().map_err(|_| Failure("the flood panicked".into()))??;
        }
        Ok(())
    }
}
