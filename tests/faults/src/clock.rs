//! The wall clock jumps, by libfaketime: only what names a date may notice.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::debian;
use wsguard_test_support::honest::Honest;
use wsguard_test_support::host::Host;
use wsguard_test_support::jwt;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::setup::Setup;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::Dial;
use wsguard_test_support::{ensure, frame};

const LIBRARY: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
const KEY: &str = "a key of thirty-two bytes or more for HS256";
const HOUR: u64 = 3600;

/// A host whose wall clock is the test's.
struct Jumping<'g> {
    host: Host,
    offset: &'g Path,
}

impl Jumping<'_> {
    /// Moves the wall clock, and waits until the host lives with it.
    fn jump(&self, hours: i64) -> Outcome {
        let fresh = self.offset.with_extension("new");
        fs::write(&fresh, format!("{:+}\n", hours * 3600))?;
        Ok(fs::rename(fresh, self.offset)?)
    }

    /// The answer to a handshake with that token.
    fn status(&self, token: &str) -> Outcome<u16> {
        let mut client = Client::over(self.host.target.connect(Dial::default())?);
        Ok(client.upgrade(&opening(token))?.status)
    }
}

fn opening(token: &str) -> Opening {
    Opening::bare().header("Origin", ORIGIN).header("Authorization", &format!("Bearer {token}"))
}

fn token(user: &str, lifetime_s: u64) -> Outcome<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    jwt::hs256(&json!({"sub": user, "exp": now + lifetime_s}), KEY)
}

/// A day forward, two days back: open connections live, timeouts and buckets go by the monotonic clock, and tokens
/// expire by the date.
pub(crate) fn jump(ground: &Ground) -> Outcome<String> {
    let library = debian::provide(LIBRARY, "libfaketime")?;
    let offset = ground.scratch.join("faketime");
    fs::write(&offset, "+0\n")?;
    let setup = Setup::new(json!({
        "origins": [ORIGIN],
        "auth": {"jwt": {"algorithms": ["HS256"], "key": KEY}},
        "events": {"echo": {}, "say": {"cost": 4000}},
        "rate_limit": {"per_second": 2000, "burst": 4000, "queue": 0, "key": "user"},
        "ping_interval_ms": 300,
        "idle_timeout_ms": 2000,
    }));
    let host = setup
        .environment("LD_PRELOAD", library.display().to_string())
        .environment("FAKETIME_TIMESTAMP_FILE", offset.display().to_string())
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start(&ground.run)?;
    let mut jumping = Jumping { host, offset: &offset };
    let (hour, week) = (token("honest", HOUR)?, token("honest", 7 * 24 * HOUR)?);
    ensure!(jumping.status(&hour)? == 101, "a good token was refused");
    let honest = Honest::start_with(&jumping.host.target, 2, &opening(&week), Dial::default())?;
    let mut quiet = Client::open(&jumping.host.target, Dial::default(), &opening(&hour))?;
    let began = Instant::now();

    jumping.jump(24)?;
    ensure!(jumping.status(&hour)? == 401, "a token of an hour is good a day later");
    ensure!(jumping.status(&week)? == 101, "a token of a week is not good a day later");
    stays_open(&mut quiet, Duration::from_secs(1))?;
    honest.keep_going()?;
    overflow(&jumping)?;

    jumping.jump(-24)?;
    ensure!(jumping.status(&hour)? == 101, "a token of an hour is not good the day before");
    stays_open(&mut quiet, Duration::from_secs(1))?;
    honest.keep_going()?;

    let silent = Client::open(&jumping.host.target, Dial::default(), &opening(&token("silent", 7 * 24 * HOUR)?))?;
    let fell_silent = Instant::now();
    // `quiet` falls silent a moment earlier and may be found first.
    jumping.host.until("verdicts.idle_timeout", PATIENCE, |count| count >= 1)?;
    let found = fell_silent.elapsed();
    ensure!(found > Duration::from_millis(1900), "idle after {} ms", found.as_millis());
    drop((silent, quiet));
    let seen = honest.finish()?;
    Ok(format!(
        "+24 h, -24 h within {} ms: tokens by the date, all else as before; {seen}",
        began.elapsed().as_millis()
    ))
}

/// Answers pings for a while; anything else is a failure.
fn stays_open(client: &mut Client, span: Duration) -> Outcome {
    let began = Instant::now();
    let mut pings = 0;
    while pings < 2 || began.elapsed() < span {
        let frame = client.frame(PATIENCE)?;
        ensure!(frame.opcode == frame::PING, "an open connection got opcode {} {:?}", frame.opcode, frame.close_code());
        client.send(&frame::encode(frame::PONG, &frame.payload))?;
        pings += 1;
    }
    Ok(())
}

/// A bucket that is full stays full when the date jumps: its two seconds are not twenty days.
fn overflow(jumping: &Jumping<'_>) -> Outcome {
    let mut client = Client::open(&jumping.host.target, Dial::default(), &opening(&token("greedy", 30 * 24 * HOUR)?))?;
    let expensive = json!({"room": "none", "text": "expensive"});
    client.emit("say", &expensive)?;
    jumping.jump(20 * 24)?;
    client.emit("say", &expensive)?;
    let (code, reason) = client.closed(PATIENCE)?;
    ensure!(code == 1008 && reason == "rate limit", "closed with {code} {reason:?}");
    Ok(())
}
