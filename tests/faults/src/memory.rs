//! Thousands of connections opened and closed, twice: memory does not grow with those that have gone.

use serde_json::json;
use wsguard_test_support::client::PATIENCE;
use wsguard_test_support::crowd;
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::Honest;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::Target;

use crate::policy::{evil, over_tls, policy, tls_policy};

/// What telling the application of an end may leave to a garbage collector that has not come yet, in bytes.
const AN_END: usize = 256;

/// Resident memory of one round, in KiB.
struct Round {
    most: u64,
    after: u64,
}

/// Ten thousand plain connections, twice.
pub(crate) fn ten_thousand(ground: &Ground) -> Outcome<String> {
    let host = policy().start(&ground.run)?;
    let target = host.target.clone();
    twice(host, &target, ground.descriptors.saturating_sub(500).min(10_000) as usize)
}

/// Two thousand over TLS, which needs far more memory for each, twice.
pub(crate) fn two_thousand_tls(ground: &Ground) -> Outcome<String> {
    let host = tls_policy(&ground.certs, "server").start(&ground.run)?;
    let target = over_tls(&host.target, &ground.certs);
    twice(host, &target, ground.descriptors.saturating_sub(500).min(2_000) as usize)
}

/// After so many rounds that each have added something it is not the collector.
const MOST_ROUNDS: usize = 8;

/// Two rounds, and more where the second adds something. What the first leaves is bounded: an allocator keeps freed pages for
/// the next time, so it is not nothing. What is lost is added by every round; a collector that has not been there yet adds to
/// some: within a few, one adds nothing.
fn twice(mut host: Host, target: &Target, count: usize) -> Outcome<String> {
    ensure!(count >= 500, "the limit of open files is too low for this test");
    let honest = Honest::start(target, 4)?;
    let before = host.group.resident_kib();
    let first = round(&mut host, target, count)?;
    let mut last = [first.after, round(&mut host, target, count)?.after];
    let grows = |[earlier, later]: [u64; 2]| later >= earlier + earlier / 20 + 1024;
    let mut rounds = 2;
    while grows(last) && rounds < MOST_ROUNDS {
        last = [last[1], round(&mut host, target, count)?.after];
        rounds += 1;
    }
    let seen = honest.finish()?;
    let each = first.most.saturating_sub(before) as f64 / count as f64;
    let told = format!(
        "{count} at once, {each:.1} KiB each; {} MiB before, {} MiB after the first round, {} after {rounds}",
        before >> 10,
        first.after >> 10,
        last[1] >> 10
    );
    ensure!(each < 32.0, "too much memory: {told}");
    let ends = (count * AN_END).div_ceil(1024) as u64;
    ensure!(first.after <= first.most + 1024 + ends, "memory grew while connections closed: {told}");
    ensure!(!grows(last), "memory grows with every round: {told}");
    Ok(format!("{told}; {seen}"))
}

/// Opens `count`, has an echo from each, and closes them: some politely, some by reset.
fn round(host: &mut Host, target: &Target, count: usize) -> Outcome<Round> {
    let mut clients = crowd::open(target, count, &evil())?;
    for client in &mut clients {
        client.emit("echo", &json!({"hello": "there"}))?;
    }
    for client in &mut clients {
        client.message(PATIENCE)?;
    }
    let most = host.group.resident_kib();
    for (member, mut client) in clients.into_iter().enumerate() {
        match member % 3 {
            0 => client.wire.reset()?,
            1 => drop(client),
            _ => client.send(&frame::close(1000))?,
        }
    }
    host.until("connections", PATIENCE, |now| now == 4)?;
    Ok(Round { most, after: host.group.resident_kib() })
}
