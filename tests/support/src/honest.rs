//! Honest clients: they send numbered echoes the whole time, a few in flight, and want every one back, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, Opening, PATIENCE};
use crate::frame;
use crate::outcome::{Outcome, ensure, fail};
use crate::wire::{Dial, Target};

/// The token that every policy of these tests gives to the honest user.
pub const TOKEN: &str = "honest-token";

/// What honest clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Messages that came back.
    pub echoes: u64,
    /// The longest wait for an echo.
    pub slowest: Duration,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} honest echoes, slowest {} ms", self.echoes, self.slowest.as_millis())
    }
}

#[derive(Debug, Default)]
struct Flags {
    stop: AtomicBool,
    echoes: AtomicU64,
}

/// Honest clients at work.
#[derive(Debug)]
pub struct Honest {
    flags: Arc<Flags>,
    threads: Vec<JoinHandle<Outcome<Duration>>>,
}

impl Honest {
    /// Connects `count` clients and lets them work.
    pub fn start(target: &Target, count: usize) -> Outcome<Self> {
        Self::start_with(target, count, &Opening::with_token(TOKEN), Dial::default())
    }

    /// As [`start`](Self::start), compressed both ways: the policy must have `compression` from the first byte on.
    pub fn start_compressed(target: &Target, count: usize) -> Outcome<Self> {
        Self::start_with(target, count, &Opening::with_token(TOKEN).compressed(), Dial::default())
    }

    /// As [`start`](Self::start), with another handshake or from another address.
    pub fn start_with(target: &Target, count: usize, opening: &Opening, dial: Dial) -> Outcome<Self> {
        let mut honest = Self { flags: Arc::default(), threads: Vec::new() };
        for _ in 0..count {
            let client = Client::open(target, dial, opening).map_err(|failure| failure.during("an honest client"))?;
            let offers = opening.headers.iter().any(|(name, _)| name == "Sec-WebSocket-Extensions");
            ensure!(
                client.agreed.is_some() == offers,
                "compression was offered: {offers}; it was agreed on: {}",
                !offers
            );
            let flags = Arc::clone(&honest.flags);
            honest.threads.push(std::thread::spawn(move || work(client, &flags)));
        }
        honest.keep_going()?;
        Ok(honest)
    }

    /// Waits until echoes have come that were not there before: the clients are served now.
    pub fn keep_going(&self) -> Outcome {
        let wanted = self.flags.echoes.load(Ordering::Relaxed) + 8 * self.threads.len() as u64;
        let deadline = Instant::now() + PATIENCE;
        while self.flags.echoes.load(Ordering::Relaxed) < wanted {
            ensure!(!self.threads.iter().any(JoinHandle::is_finished), "an honest client was disturbed");
            ensure!(Instant::now() < deadline, "honest clients are not served any more");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Lets them leave; every message of every client must have come back, and every close be answered.
    pub fn finish(mut self) -> Outcome<Seen> {
        self.flags.stop.store(true, Ordering::Relaxed);
        let mut slowest = Duration::ZERO;
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(seen) => slowest = slowest.max(seen.map_err(|failure| failure.during("an honest client"))?),
                Err(_) => return fail!("an honest client panicked"),
            }
        }
        Ok(Seen { echoes: self.flags.echoes.load(Ordering::Relaxed), slowest })
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.flags.stop.store(true, Ordering::Relaxed);
    }
}

/// One client's life; the longest wait it had. Where compression was agreed on, every echo must come compressed.
fn work(mut client: Client, flags: &Flags) -> Outcome<Duration> {
    let words = client.agreed.map(|_| "again and again, ".repeat(20));
    let data = |number: u64| json!({"n": number, "words": words});
    let mut slowest = Duration::ZERO;
    let mut number = 0_u64;
    while !flags.stop.load(Ordering::Relaxed) {
        let numbers = number..number + 1 + number % 4;
        number = numbers.end;
        let mut frames = Vec::new();
        for number in numbers.clone() {
            let message = json!({"event": "echo", "data": data(number), "id": number});
            frames.extend(frame::message(client.agreed, frame::TEXT, message.to_string().as_bytes())?);
        }
        let sent = Instant::now();
        client.send(&frames)?;
        for number in numbers {
            let echo = client.event(PATIENCE).map_err(|failure| failure.during(format_args!("message {number}")))?;
            if echo["event"] != "echo" || echo["data"] != data(number) || echo["id"] != number {
                return fail!("message {number} came back as {echo}");
            }
            slowest = slowest.max(sent.elapsed());
            flags.echoes.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let compressed = if client.agreed.is_some() { number } else { 0 };
    ensure!(client.compressed == compressed, "{} of {compressed} echoes came compressed", client.compressed);
    client.leave()?;
    Ok(slowest)
}
