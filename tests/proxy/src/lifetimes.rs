//! How long a connection lives behind nginx: its read timeout against our ping, and the end of the host.

use std::time::{Duration, Instant};

use serde_json::Value;
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::TOKEN;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::Signal;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::nginx::{Nginx, policy};

/// A thirtieth of nginx's own 60 s; the ping's 20 s become 667 ms.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

fn honest() -> Opening {
    Opening::with_token(TOKEN)
}

/// An idle connection outlives the read timeout thrice because of our pings. Without them nginx cuts it off, which
/// shows that the test can fail.
pub(crate) fn ping(ground: &Ground) -> Outcome<String> {
    let pinging = policy().option("ping_interval_ms", 667).start(&ground.run)?;
    let silent = policy().option("ping_interval_ms", 0).option("idle_timeout_ms", 0).start(&ground.run)?;
    let before_pinging = Nginx::http(ground, &pinging, READ_TIMEOUT)?;
    let before_silent = Nginx::http(ground, &silent, READ_TIMEOUT)?;
    let cut = {
        let target = before_silent.plain.clone();
        std::thread::spawn(move || cut_off(&target))
    };
    let secure = {
        let target = before_pinging.tls.clone();
        std::thread::spawn(move || idle(&target))
    };
    let pings = idle(&before_pinging.plain)?;
    let panicked = |_| Failure("a client panicked".into());
    let secure = secure.join().map_err(panicked)??;
    let cut = cut.join().map_err(panicked)??;
    Ok(format!(
        "idle for {} s with {pings} pings, {secure} over tls; without pings cut off after {} ms",
        3 * READ_TIMEOUT.as_secs(),
        cut.as_millis()
    ))
}

/// Sends nothing but pongs for three read timeouts; an echo comes back then. How many pings came.
fn idle(target: &Target) -> Outcome<u32> {
    let mut client = Client::open(target, Dial::default(), &honest())?;
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < 3 * READ_TIMEOUT {
        let frame = client.frame(PATIENCE)?;
        ensure!(frame.opcode == frame::PING, "an idle client got {:?}", frame.close_code());
        client.send(&frame::encode(frame::PONG, &frame.payload))?;
        pings += 1;
    }
    client.emit("echo", &Value::Null)?;
    client.event(PATIENCE)?;
    client.leave()?;
    Ok(pings)
}

/// How long nginx lets a silent connection live.
fn cut_off(target: &Target) -> Outcome<Duration> {
    let mut client = Client::open(target, Dial::default(), &honest())?;
    let began = Instant::now();
    client.gone(PATIENCE)?;
    let lived = began.elapsed();
    ensure!(lived > READ_TIMEOUT.mul_f64(0.95), "cut off after {} ms", lived.as_millis());
    Ok(lived)
}

/// SIGTERM at the host: clients behind nginx see 1012, newcomers a gateway's error, and a new host is found again.
pub(crate) fn drain(ground: &Ground) -> Outcome<String> {
    let mut host = policy().start(&ground.run)?;
    let address = host.target.address.clone();
    let nginx = Nginx::http(ground, &host, Duration::from_secs(60))?;
    let mut clients = Vec::new();
    for number in 0..20 {
        let target = if number % 2 == 0 { &nginx.plain } else { &nginx.tls };
        clients.push(Client::open(target, Dial::default(), &honest())?);
    }
    host.group.signal(Signal::SIGTERM)?;
    for client in &mut clients {
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1012, "closed with {code}");
    }
    drop(clients);
    let code = host.exit_code(PATIENCE)?;
    ensure!(code == 0, "exit code {code}");
    let mut newcomer = Client::over(nginx.plain.connect(Dial::default())?);
    let status = newcomer.upgrade(&honest())?.status;
    ensure!(status == 502, "a newcomer was answered {status} without a host");
    let fresh = policy().option("listen", address).start(&ground.run)?;
    let mut client = Client::open(&nginx.plain, Dial::default(), &honest())?;
    client.emit("echo", &Value::Null)?;
    client.event(PATIENCE)?;
    client.leave()?;
    drop(fresh);
    Ok("20 told 1012, exit 0, 502 meanwhile, 101 from the next host".into())
}
