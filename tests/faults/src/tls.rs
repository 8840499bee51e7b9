//! What is not TLS on the TLS port (THREATS T1), and certificates that change under load (T2).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::honest::{Honest, TOKEN};
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target, Wire};
use wsguard_test_support::{ensure, fail};

use crate::policy::{evil, over_tls, tls_policy};

/// What a peer may send first.
fn openings() -> Vec<(&'static str, Vec<u8>)> {
    let record =
        |kind: u8, version: u8, claim: u16, body: &[u8]| [&[kind, 3, version][..], &claim.to_be_bytes(), body].concat();
    // A handshake message may claim 16 MiB; it comes in records of 16 KiB.
    let mut huge = record(22, 1, 16_384, &[&[1, 0xff, 0xff, 0xff][..], &[0; 16_380]].concat());
    for _ in 0..15 {
        huge.extend(record(22, 3, 16_384, &[0; 16_384]));
    }
    vec![
        ("plaintext", evil().bytes()),
        ("health check", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("huge ClientHello", huge),
        ("oversized record", record(22, 1, 0xffff, &[0; 4096])),
        ("empty records", record(22, 1, 0, &[]).repeat(200)),
        ("alert first", record(21, 3, 2, &[2, 40])),
        ("data first", record(23, 3, 5, b"hello")),
        ("SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        ("zeroes", vec![0; 70_000]),
        ("noise", (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
    ]
}

/// Everything that is not TLS ends in an alert or a close, and the process lives.
pub(crate) fn garbage(ground: &Ground) -> Outcome<String> {
    let setup = tls_policy(&ground.certs, "server").option("handshake_timeout_ms", 2000);
    let mut host = setup.start(&ground.run)?;
    let target = over_tls(&host.target, &ground.certs);
    let honest = Honest::start(&target, 4)?;
    let openings = openings();
    let before = host.group.resident_kib();
    for (name, bytes) in openings.iter().cycle().take(openings.len() * 10) {
        let mut tcp = target.tcp(Dial::default())?;
        // The server may end the socket before it has read all.
        let _ = tcp.write_all(bytes);
        let mut client = Client::over(Wire::Tcp(tcp));
        if let Ok(answer) = client.answer(Duration::from_millis(1)) {
            return fail!("{name} was answered in plaintext: {}", answer.head);
        }
        client.gone(PATIENCE).map_err(|failure| failure.during(name))?;
    }
    let grown = host.group.resident_kib().saturating_sub(before) / 1024;
    ensure!(grown < 16, "memory grew by {grown} MiB");
    host.until("connections", PATIENCE, |now| now == 4)?;
    let failed = host.stat("verdicts.tls_failed")?;
    ensure!(failed >= 50, "{failed} of {} were counted as tls_failed", openings.len() * 10);
    ensure!(host.is_alive(), "the process is gone");
    let seen = honest.finish()?;
    Ok(format!("{} openings, {failed} tls_failed; {seen}", openings.len() * 10))
}

/// Certificates are replaced ten times under load: no connection is dropped, no handshake fails, and a bad pair keeps
/// the old one.
pub(crate) fn reload_under_load(ground: &Ground) -> Outcome<String> {
    let certs = &ground.certs;
    let install = |cert: &str, key: &str| -> Outcome {
        replace(&certs.dir.join("live.pem"), &fs::read(certs.dir.join(cert))?)?;
        replace(&certs.dir.join("live.key"), &fs::read(certs.dir.join(key))?)
    };
    install("server.pem", "server.key")?;
    let mut host = tls_policy(certs, "live").start(&ground.run)?;
    let target = over_tls(&host.target, certs);
    let honest = Honest::start(&target, 4)?;
    let newcomers = Newcomers::start(&target);
    for round in 0..10 {
        let name = if round % 2 == 0 { "other" } else { "server" };
        install(&format!("{name}.pem"), &format!("{name}.key"))?;
        let done = host.command(&json!({"do": "reload_tls"}))?;
        ensure!(done["ok"] != false, "a good pair was refused: {done}");
        shows(&target, certs, name)?;
        // A certificate without its key, and no certificate at all.
        for (cert, key) in [("other.pem", "server.key"), ("server.key", "server.key")] {
            install(cert, key)?;
            let done = host.command(&json!({"do": "reload_tls"}))?;
            ensure!(done["ok"] == false, "a bad pair was taken: {done}");
            shows(&target, certs, name)?;
        }
        honest.keep_going()?;
    }
    let came = newcomers.finish()?;
    let seen = honest.finish()?;
    Ok(format!("10 reloads and 20 bad pairs, {came} handshakes meanwhile, none failed; {seen}"))
}

/// Replaces a file at once, as renewal tools do.
fn replace(path: &Path, bytes: &[u8]) -> Outcome {
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes)?;
    Ok(fs::rename(fresh, path)?)
}

/// A new connection sees the certificate of that name.
fn shows(target: &Target, certs: &wsguard_test_support::certs::Certs, name: &str) -> Outcome {
    let client = Client::open(target, Dial::default(), &evil())?;
    let expected = certs.certificate(name)?;
    ensure!(client.wire.server_certificate() == Some(&expected), "the server does not show {name}.pem");
    client.leave()
}

/// A thread that connects again and again.
struct Newcomers {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Outcome<u64>>,
}

impl Newcomers {
    fn start(target: &Target) -> Self {
        let (stop, target) = (Arc::<AtomicBool>::default(), target.clone());
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut came = 0;
            while !flag.load(Ordering::Relaxed) {
                Client::open(&target, Dial::default(), &Opening::with_token(TOKEN))?.leave()?;
                came += 1;
            }
            Ok(came)
        });
        Self { stop, thread }
    }

    fn finish(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure("a newcomer panicked".into()))?
    }
}
