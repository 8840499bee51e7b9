//! Peers that break off (P10), fall silent (S2), or never read (S1).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitCode, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::{Honest, Seen};
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::{Group, Signal, mortal};
use wsguard_test_support::setup::Setup;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::policy::{SLACK, evil, over_tls, policy, tls_policy};

/// RST in the middle of a frame, over TCP and TLS: the connections are gone within 100 ms.
pub(crate) fn reset_in_mid_frame(ground: &Ground) -> Outcome<String> {
    let (plain, _) = reset_them(policy(), ground, |host| host.target.clone())?;
    let secure = tls_policy(&ground.certs, "server");
    let (tls, seen) = reset_them(secure, ground, |host| over_tls(&host.target, &ground.certs))?;
    Ok(format!("20 freed after {} ms, over TLS after {} ms; {seen}", plain.as_millis(), tls.as_millis()))
}

fn reset_them(setup: Setup, ground: &Ground, target: impl Fn(&Host) -> Target) -> Outcome<(Duration, Seen)> {
    let mut host = setup.start(&ground.run)?;
    let target = target(&host);
    let honest = Honest::start(&target, 4)?;
    let frame = frame::encode(frame::TEXT, &vec![b'x'; 60_000]);
    let mut clients = Vec::new();
    for cut in 0..20 {
        let mut client = Client::open(&target, Dial::default(), &evil())?;
        client.send(&frame[..=cut * 2500])?;
        clients.push(client);
    }
    host.until("open", PATIENCE, |open| open == 24)?;
    for client in clients {
        client.wire.reset()?;
    }
    let freed = host.until("open", PATIENCE, |open| open == 4)?;
    ensure!(freed < Duration::from_millis(100) + SLACK, "freed only after {} ms", freed.as_millis());
    let counted = host.stat("connections")?;
    ensure!(counted == 4, "{counted} connections are still counted");
    Ok((freed, honest.finish()?))
}

/// The argument that makes this program a client; the address follows.
pub(crate) const CLIENT: &str = "be-a-client";

/// A client in a process of its own, to be stopped by a signal: says `open`, then echoes until it is closed, and says
/// with which code.
pub(crate) fn client_process(address: &str) -> ExitCode {
    let told = Client::open(&Target::plain(address), Dial::default(), &evil()).and_then(|mut client| {
        println!("open");
        std::io::stdout().flush()?;
        loop {
            client.emit("echo", &json!(1))?;
            let frame = client.frame(Duration::from_secs(60))?;
            if frame.opcode == frame::CLOSE {
                return Ok(frame.close_code().0);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    match told {
        Ok(code) => println!("closed {code}"),
        Err(failure) => println!("{failure}"),
    }
    ExitCode::SUCCESS
}

struct Stopped {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Stopped {
    /// A client process that was stopped while it was busy.
    fn start(target: &Target) -> Outcome<Self> {
        let mut child = mortal("KILL", std::env::current_exe()?)
            .args([CLIENT, &target.address])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure("no pipe".into()))?;
        let mut stopped = Self { child, lines: BufReader::new(stdout).lines() };
        let said = stopped.line()?;
        ensure!(said == "open", "the client process says {said:?}");
        stopped.signal(Signal::SIGSTOP)?;
        Ok(stopped)
    }

    fn line(&mut self) -> Outcome<String> {
        Ok(self.lines.next().transpose()?.unwrap_or_default())
    }

    fn signal(&self, signal: Signal) -> Outcome {
        Group::of(self.child.id()).signal(signal)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ten peers that ignore every ping and one process that was stopped: found by the ping, closed at `idle_timeout_ms`.
pub(crate) fn half_open(ground: &Ground) -> Outcome<String> {
    let setup = policy().option("ping_interval_ms", 400).option("idle_timeout_ms", 1500);
    let mut host = setup.option("close_timeout_ms", 500).start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    let began = Instant::now();
    let mut stopped = Stopped::start(&host.target)?;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(Client::open(&host.target, Dial::default(), &evil())?);
    }
    let last = Instant::now();
    host.until("open", PATIENCE, |open| open <= 14)?;
    let first_closed = began.elapsed();
    ensure!(first_closed > Duration::from_millis(1400), "closed after {} ms already", first_closed.as_millis());
    host.until("open", PATIENCE, |open| open == 4)?;
    let all_gone = last.elapsed();
    ensure!(all_gone < Duration::from_millis(2000) + SLACK, "gone only after {} ms", all_gone.as_millis());
    let found = host.stat("verdicts.idle_timeout")?;
    ensure!(found == 11, "{found} of 11 were found by idle_timeout");
    for mut client in silent {
        let mut pings = 0;
        let code = loop {
            let frame = client.frame(PATIENCE)?;
            match frame.opcode {
                frame::PING => pings += 1,
                frame::CLOSE => break frame.close_code().0,
                other => return Err(Failure(format!("a frame of opcode {other} for a silent peer"))),
            }
        };
        ensure!(pings >= 2 && code == 1011, "a silent peer saw {pings} pings and close {code}");
    }
    stopped.signal(Signal::SIGCONT)?;
    let said = stopped.line()?;
    // What it had not read is lost when it answers a socket that is gone: a reset is right, too.
    ensure!(said == "closed 1011" || said.contains("reset") || said.contains("pipe"), "the stopped one says {said:?}");
    let seen = honest.finish()?;
    Ok(format!("11 gone {} ms after the last fell silent; {seen}", all_gone.as_millis()))
}

const READERS: u64 = 16;
const TALKERS: u64 = 16;

/// Members of a room that never read, and echo clients that never read: `slow_consumer`, with bounded memory.
pub(crate) fn never_reading(ground: &Ground) -> Outcome<String> {
    // The inbox is stated, because a host whose application is slower than its shards fills it.
    let setup = policy().option("max_outbox_bytes", 262_144).option("max_inbox_bytes", 8 << 20);
    // The honest ones talk compressed; those that never read have not offered it.
    let setup = setup.option("compression", json!({"threshold_bytes": 0}));
    let mut host = setup.option("close_timeout_ms", 300).start(&ground.run)?;
    let honest = Honest::start_compressed(&host.target, 4)?;
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut client = Client::open(&host.target, dial, &evil())?;
        client.emit("join", &json!({"room": "r"}))?;
        client.event(PATIENCE)?;
        readers.push(client);
    }
    let before = host.group.resident_kib();
    let mut most = before;
    let data = "x".repeat(32_000);
    let mut rounds = 0;
    while host.stat("verdicts.slow_consumer")? < READERS {
        ensure!(rounds < 2000, "{rounds} broadcasts and still not all are slow");
        host.command(&json!({"do": "broadcast", "room": "r", "event": "said", "data": data}))?;
        most = most.max(host.group.resident_kib());
        rounds += 1;
    }
    let echo = frame::encode(frame::TEXT, json!({"event": "echo", "data": data}).to_string().as_bytes());
    // All are let in before one of them speaks: what they say may fill the inbox, and then nobody is let in.
    let clients = (0..TALKERS).map(|_| {
        let client = Client::open(&host.target, dial, &evil())?;
        client.wire.socket().set_write_timeout(Some(Duration::from_millis(500)))?;
        Ok(client)
    });
    let clients = clients.collect::<Outcome<Vec<_>>>()?;
    let talk = |mut client: Client| {
        let echo = echo.clone();
        // Ends when the server does not read any more, or has closed.
        std::thread::spawn(move || {
            while client.send(&echo).is_ok() {}
            client
        })
    };
    let talkers: Vec<_> = clients.into_iter().map(talk).collect();
    while !talkers.iter().all(JoinHandle::is_finished) {
        most = most.max(host.group.resident_kib());
        std::thread::sleep(Duration::from_millis(5));
    }
    host.until("verdicts.slow_consumer", PATIENCE, |slow| slow == READERS + TALKERS)?;
    host.until("open", PATIENCE, |open| open == 4)?;
    let grown = most.saturating_sub(before) / 1024;
    // All outboxes with a frame each are under 10 MiB; the rest is the allocator's and the language's.
    ensure!(grown < 32, "resident memory grew by {grown} MiB");
    let seen = honest.finish()?;
    Ok(format!("{} closed, memory grew by {grown} MiB at most; {seen}", READERS + TALKERS))
}
