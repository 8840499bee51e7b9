//! Running out of file descriptors (THREATS S3), and peers that come and go (R10).

use std::time::{Duration, Instant};

use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::honest::{Honest, TOKEN};
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::Group;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::policy::{SLACK, evil, policy};

const LIMIT: u32 = 96;

/// A host with few descriptors loses them all, does not spin, and accepts again as soon as there are some.
pub(crate) fn exhaustion(ground: &Ground) -> Outcome<String> {
    let host = policy().descriptors(LIMIT).option("handshake_timeout_ms", 120_000).start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    let before = cpu_share(host.group, Duration::from_secs(1));
    let open = exhaust(&host.target)?;
    let waiting = (0..20).map(|_| waiter(&host.target)).collect::<Outcome<Vec<_>>>()?;
    let during = cpu_share(host.group, Duration::from_secs(2));
    ensure!(during < before + 0.25, "it spins: {during:.2} of a processor without descriptors, {before:.2} before");
    honest.keep_going()?;
    let (count, freed) = (open.len(), Instant::now());
    drop(open);
    Client::open(&host.target, Dial::default(), &Opening::with_token(TOKEN))?.leave()?;
    let recovered = freed.elapsed();
    ensure!(recovered < Duration::from_secs(1) + SLACK, "accepted again only after {} ms", recovered.as_millis());
    for mut client in waiting {
        let status = client.answer(PATIENCE)?.status;
        ensure!(status == 101, "one that waited in the backlog was answered {status}");
    }
    let seen = honest.finish()?;
    Ok(format!(
        "{count} filled it; {:.0} % of a processor meanwhile ({:.0} % before), accepted again after {} ms; {seen}",
        during * 100.0,
        before * 100.0,
        recovered.as_millis()
    ))
}

/// Processor time used during `span`, as a share of one processor.
fn cpu_share(group: Group, span: Duration) -> f64 {
    let (used, began) = (group.cpu(), Instant::now());
    std::thread::sleep(span);
    group.cpu().saturating_sub(used).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// A connection with its request sent.
fn waiter(target: &Target) -> Outcome<Client> {
    let mut client = Client::over(target.connect(Dial::default())?);
    client.send(&evil().bytes())?;
    Ok(client)
}

/// Opens connections until one is not answered any more.
fn exhaust(target: &Target) -> Outcome<Vec<Client>> {
    let mut open = Vec::new();
    loop {
        let mut client = waiter(target)?;
        let answer = client.answer(Duration::from_millis(1000));
        open.push(client);
        match answer {
            Ok(_) => ensure!(open.len() < LIMIT as usize, "the limit of {LIMIT} files is not in force"),
            Err(failure) if failure.0.starts_with("nothing came") => return Ok(open),
            Err(failure) => return Err(failure),
        }
    }
}

/// The attacker's address.
const CHURNER: u8 = 66;

/// One address connects and disconnects as fast as it can, in several ways: it gets its burst and its rate, and others
/// do not notice.
pub(crate) fn churn(ground: &Ground) -> Outcome<String> {
    let rate = serde_json::json!({"per_second": 10, "burst": 50});
    let mut host = policy().option("handshakes_per_ip", rate).start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    let descriptors = host.group.descriptors();
    let began = Instant::now();
    let until = began + Duration::from_secs(3);
    let churners = (0..4).map(|_| {
        let target = host.target.clone();
        std::thread::spawn(move || churner(&target, until))
    });
    let churners = churners.collect::<Vec<_>>();
    while Instant::now() < until {
        Client::open(&host.target, Dial::default(), &Opening::with_token(TOKEN))?.leave()?;
        std::thread::sleep(Duration::from_millis(300));
    }
    let mut total = Counts::default();
    for thread in churners {
        let counts = thread.join().map_err(|_| Failure("a churner panicked".into()))??;
        total.cycles += counts.cycles;
        total.accepted += counts.accepted;
        total.refused += counts.refused;
    }
    let allowance = 50.0 + 10.0 * began.elapsed().as_secs_f64() + 1.0;
    let Counts { cycles, accepted, refused } = total;
    ensure!(accepted as f64 <= allowance, "{accepted} handshakes of one address passed, {allowance:.0} may");
    ensure!(accepted >= 10 && refused >= 10, "{accepted} passed and {refused} were refused of {cycles}");
    host.until("connections", Duration::from_secs(5), |now| now == 4)?;
    let seen = honest.finish()?;
    let left = host.group.descriptors();
    ensure!(left <= descriptors, "{descriptors} descriptors before, {left} after");
    Ok(format!("{cycles} connections, {accepted} accepted, {refused} answered 429; {seen}"))
}

#[derive(Default)]
struct Counts {
    cycles: u64,
    accepted: u64,
    refused: u64,
}

fn churner(target: &Target, until: Instant) -> Outcome<Counts> {
    let mut counts = Counts::default();
    while Instant::now() < until {
        counts.cycles += 1;
        let mut client = Client::over(target.connect(Dial::from_host(CHURNER))?);
        match counts.cycles % 4 {
            0 => client.wire.reset()?,
            1 => drop(client.send(b"\x16\x03garbage\r\n\r\n")),
            _ => {
                let answer = client.upgrade(&evil())?;
                match answer.status {
                    101 => counts.accepted += 1,
                    429 if answer.header("Retry-After").is_some() => counts.refused += 1,
                    _ => return Err(Failure(format!("a churning client was answered {}", answer.head))),
                }
            }
        }
    }
    Ok(counts)
}

/// One address, far over its limits, opens silent connections. They will be refused, but they are held until then: how
/// many are held must be bounded, or the limits protect everything but the descriptors.
pub(crate) fn refused_are_bounded(ground: &Ground) -> Outcome<String> {
    const SILENT: usize = 4000;
    const BOUND: usize = 2000;
    let setup = policy().option("max_connections", 200).option("max_connections_per_ip", 10);
    let rate = serde_json::json!({"per_second": 10, "burst": 50});
    let mut host = setup.option("handshakes_per_ip", rate).start(&ground.run)?;
    let honest = Honest::start(&host.target, 4)?;
    let before = host.group.descriptors();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(host.target.tcp(Dial::from_host(CHURNER))?);
    }
    honest.keep_going()?;
    let held = host.group.descriptors().saturating_sub(before);
    ensure!(
        held <= BOUND,
        "one address holds {held} descriptors, with max_connections 200 and max_connections_per_ip 10"
    );
    drop(silent);
    host.until("connections", PATIENCE, |now| now == 4)?;
    let seen = honest.finish()?;
    Ok(format!("{SILENT} silent connections of one address held {held} descriptors; {seen}"))
}
