//! Slowloris by the thousand (THREATS H10): a byte now and then, in the head or in TLS.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::crowd;
use wsguard_test_support::ensure;
use wsguard_test_support::honest::{Honest, TOKEN};
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target, Wire};

use crate::policy::{SLACK, evil, over_tls, policy, tls_policy};

const TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that never gets to the end, and what it still has to say.
struct Slow {
    tcp: TcpStream,
    rest: VecDeque<u8>,
}

impl Slow {
    /// Sends the first `sent` of `bytes`.
    fn start(mut tcp: TcpStream, bytes: &[u8], sent: usize) -> Outcome<Self> {
        tcp.write_all(&bytes[..sent])?;
        Ok(Self { tcp, rest: bytes[sent..].iter().copied().collect() })
    }

    fn client(self) -> Client {
        Client::over(Wire::Tcp(self.tcp))
    }
}

/// 1200 connections that dribble their request head.
pub(crate) fn plain(ground: &Ground) -> Outcome<String> {
    const COUNT: u64 = 1200;
    let mut host = policy().option("handshake_timeout_ms", TIMEOUT.as_millis() as u64).start(&ground.run)?;
    let target = host.target.clone();
    let honest = Honest::start(&target, 4)?;
    let head = evil().bytes();
    let mut slow = Vec::new();
    for member in 0..COUNT as usize {
        let tcp = target.tcp(crowd::dial(member))?;
        slow.push(Slow::start(tcp, &head, 1 + member % 64)?);
    }
    let attack = dribble(&mut slow, COUNT, &target, &mut host)?;
    for mut client in slow.into_iter().map(Slow::client) {
        // A byte that crosses with the end of the socket may turn the answer into a reset.
        if let Ok(answer) = client.answer(PATIENCE) {
            ensure!(answer.status == 408, "a slow client was answered {}", answer.head);
        }
        client.gone(PATIENCE)?;
    }
    told(COUNT, &attack, host, honest)
}

/// What an attack came to.
struct Attack {
    /// From the last connection to the last verdict.
    ended: Duration,
    /// The longest that an honest newcomer needed meanwhile.
    newcomer: Duration,
}

/// Sends a byte on every socket four times a second until `count` handshakes have timed out, which must be soon;
/// meanwhile honest newcomers come and go.
fn dribble(slow: &mut [Slow], count: u64, target: &Target, host: &mut Host) -> Outcome<Attack> {
    let last = Instant::now();
    let mut newcomer = Duration::ZERO;
    while host.stat("verdicts.handshake_timeout")? < count {
        for Slow { tcp, rest } in &mut *slow {
            // Those that are over are over.
            let _ = rest.pop_front().map(|byte| tcp.write(&[byte]));
        }
        let began = Instant::now();
        Client::open(target, Dial::default(), &Opening::with_token(TOKEN))?.leave()?;
        newcomer = newcomer.max(began.elapsed());
        let elapsed = last.elapsed();
        ensure!(elapsed < TIMEOUT + SLACK + SLACK, "not all have ended after {} ms", elapsed.as_millis());
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(Attack { ended: last.elapsed(), newcomer })
}

/// All places are free again, and the honest clients saw nothing.
fn told(count: u64, attack: &Attack, mut host: Host, honest: Honest) -> Outcome<String> {
    host.until("connections", PATIENCE, |now| now == 4)?;
    let seen = honest.finish()?;
    let (ended, newcomer) = (attack.ended.as_millis(), attack.newcomer.as_millis());
    Ok(format!("{count} ended within {ended} ms of the last; a newcomer needed {newcomer} ms at most; {seen}"))
}

/// 600 connections that stall in TLS: before it, in it, and behind it.
pub(crate) fn tls(ground: &Ground) -> Outcome<String> {
    const COUNT: u64 = 600;
    let setup = tls_policy(&ground.certs, "server").option("handshake_timeout_ms", TIMEOUT.as_millis() as u64);
    let mut host = setup.start(&ground.run)?;
    let target = over_tls(&host.target, &ground.certs);
    let honest = Honest::start(&target, 4)?;
    let hello = [&b"\x16\x03\x01\x01\xfc\x01\x00\x01\xf8\x03\x03"[..], &[0; 400]].concat();
    let (mut stalled, mut inside) = (Vec::new(), Vec::new());
    for member in 0..COUNT as usize {
        let dial = crowd::dial(member);
        match member % 6 {
            // Nothing at all.
            0..=1 => stalled.push(Slow::start(target.tcp(dial)?, &[], 0)?),
            // A record that announces a ClientHello.
            2..=4 => stalled.push(Slow::start(target.tcp(dial)?, &hello, 1 + member % 16)?),
            // The whole of TLS, then half a request.
            _ => {
                let mut client = Client::over(target.connect(dial)?);
                client.send(&evil().bytes()[..40])?;
                inside.push(client);
            }
        }
    }
    let attack = dribble(&mut stalled, COUNT, &target, &mut host)?;
    for mut client in inside {
        let answer = client.answer(PATIENCE)?;
        ensure!(answer.status == 408, "a slow client was answered {}", answer.head);
    }
    for mut client in stalled.into_iter().map(Slow::client) {
        client.gone(PATIENCE)?;
    }
    told(COUNT, &attack, host, honest)
}
