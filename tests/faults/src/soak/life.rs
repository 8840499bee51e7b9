//! One server's life: it starts, honest clients and attackers come at the same time, its application gives commands and
//! is watched, everybody leaves, and what is left is looked at before it drains.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::certs::Certs;
use wsguard_test_support::client::PATIENCE;
use wsguard_test_support::dice::Dice;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::wire::Target;
use wsguard_test_support::{ensure, fail};

use crate::attacks::{ATTACKERS, Attacker};
use crate::honest::{self, MEMBERS, Member};
use crate::ledger::{self, APPLICATION, LOBBY};
use crate::policy::Policy;
use crate::redis::Redis;
use crate::report::{Report, gauges};
use crate::tally::Tally;

/// How often memory and gauges are read.
const SAMPLE: Duration = Duration::from_secs(2);

/// How long the last handshakes and closes of those who left may take: the longest timeout of the policy and some more.
const SETTLING: Duration = Duration::from_secs(25);

/// What is to be soaked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// The host's name.
    pub(crate) host: &'a str,
    /// The program that starts it.
    pub(crate) run: &'a Path,
    /// How it is configured and reached.
    pub(crate) policy: Policy,
    /// Certificates of its own, in a directory of its own.
    pub(crate) certs: &'a Certs,
    /// How long attacks last.
    pub(crate) span: Duration,
    /// Where every stream of chance comes from.
    pub(crate) seed: u64,
    /// The kinds of attack; all when empty.
    pub(crate) only: &'a [String],
}

/// Lives it, and tells.
pub(crate) fn live(plan: &Plan<'_>) -> Report {
    let tally = Tally::default();
    let mut report = Report::new(plan.host, plan.policy.name(), plan.seed);
    let began = Instant::now();
    if let Err(failure) = through(plan, &tally, &mut report) {
        report.fault(failure);
    }
    report.minutes = began.elapsed().as_secs_f64() / 60.0;
    report.take(&tally);
    report
}

fn through(plan: &Plan<'_>, tally: &Tally, report: &mut Report) -> Outcome {
    install(plan.certs, "server")?;
    let redis = (plan.policy == Policy::Cluster).then(Redis::start).transpose()?;
    let mut node = Node::start(plan, redis.as_ref())?;
    let mut other = redis.as_ref().map(|redis| Node::start(plan, Some(redis))).transpose()?;
    report.memory.start = node.host.group.resident_kib();
    let targets = [&node.target, other.as_ref().map_or(&node.target, |other| &other.target)].map(Target::clone);
    if let Err(failure) = busy(plan, tally, &mut node.host, &targets, report) {
        let host = &mut node.host;
        let end = if host.is_alive() { "its process lives".into() } else { exit_of(host) };
        return Err(failure.during(format_args!("the application ({end}; {})", host.log_tail())));
    }
    aftermath(&mut node, report)?;
    if let Some(other) = &mut other
        && report.faults().is_empty()
    {
        // What is left on it is left.
        aftermath(other, report)?;
    }
    redis.as_ref().map_or(Ok(()), |redis| redis.rests(2, SETTLING))?;
    drain(&mut node.host)?;
    other.as_mut().map_or(Ok(()), |other| drain(&mut other.host))?;
    redis.map_or(Ok(()), |redis| redis.rests(0, PATIENCE))
}

/// A server of this life. In a cluster there are two.
struct Node {
    host: Host,
    target: Target,
    /// How many it had before the first guest.
    descriptors: usize,
}

impl Node {
    fn start(plan: &Plan<'_>, redis: Option<&Redis>) -> Outcome<Self> {
        // Backtraces of a debug build read 100 MiB of symbols, which hides what memory does.
        let setup = plan.policy.setup(plan.certs).environment("RUST_BACKTRACE", "0");
        let setup = redis.map_or(setup.clone(), |redis| setup.option("cluster", json!({"url": redis.url()})));
        let mut host = setup.start(plan.run)?;
        let tls = (plan.policy == Policy::Callback).then(|| plan.certs.client.clone());
        let target = Target { tls, ..host.target.clone() };
        honest::warm_up(&target, plan.policy)?;
        host.until("connections", PATIENCE, |now| now == 0)?;
        let descriptors = host.group.descriptors();
        Ok(Self { host, target, descriptors })
    }
}

fn exit_of(host: &mut Host) -> String {
    host.exit_code(PATIENCE).map_or_else(|failure| failure.0, |code| format!("its process ended with {code}"))
}

/// Everybody at once, until the time is over; then the attackers leave, then the honest. They are on each node in turn.
fn busy(plan: &Plan<'_>, tally: &Tally, host: &mut Host, targets: &[Target; 2], report: &mut Report) -> Outcome {
    // What two servers of one host do must not be the same.
    let seed = plan.seed ^ plan.policy as u64;
    std::thread::scope(|scope| {
        for member in 0..MEMBERS {
            let member = Member::new(member, &targets[member % targets.len()], tally, plan.policy, seed);
            scope.spawn(|| member.live());
        }
        let attackers = (0..ATTACKERS).map(|number| {
            let attacker = Attacker::new(number, &targets[number % targets.len()], tally, plan.policy, seed);
            scope.spawn(|| attacker.live(plan.only))
        });
        let attackers = attackers.collect::<Vec<_>>();
        let mut application = Application::new(plan, tally, seed);
        let led = application.lead(host, report);
        tally.attackers_stop.store(true, Ordering::Relaxed);
        let mut panicked = false;
        for attacker in attackers {
            panicked |= attacker.join().is_err();
        }
        tally.stop_all();
        led?;
        ensure!(!panicked, "an attacker panicked");
        Ok(())
    })
}

/// What the application itself does, through the host's standard input.
struct Application<'a> {
    plan: &'a Plan<'a>,
    tally: &'a Tally,
    dice: Dice,
    told: u64,
    reloads: u64,
}

impl<'a> Application<'a> {
    fn new(plan: &'a Plan<'a>, tally: &'a Tally, seed: u64) -> Self {
        Self { plan, tally, dice: Dice::of_stream(seed, 2000), told: 0, reloads: 0 }
    }

    /// Until the time is over.
    fn lead(&mut self, host: &mut Host, report: &mut Report) -> Outcome {
        let (began, mut sampled) = (Instant::now(), Instant::now());
        while began.elapsed() < self.plan.span {
            self.command(host)?;
            if sampled.elapsed() >= SAMPLE {
                sampled = Instant::now();
                ensure!(host.is_alive(), "the process is gone");
                let stats = host.stats()?;
                let share = began.elapsed().as_secs_f64() / self.plan.span.as_secs_f64();
                report.memory.sample(share, host.group.resident_kib());
                report.see(&gauges(&stats));
                // Nobody else reads it, and it grows.
                host.log_so_far();
            }
            self.dice.pause(200..600);
        }
        Ok(())
    }

    fn command(&mut self, host: &mut Host) -> Outcome {
        match self.dice.within(0..6) {
            0..=2 => {
                let data = ledger::said(LOBBY, APPLICATION, self.told);
                self.told += 1;
                self.carry_out(host, "broadcast", json!({"room": LOBBY, "event": "said", "data": data}))
            }
            3 => {
                let user = format!("mallory-{}", self.dice.within(0..Policy::USERS as u64));
                self.carry_out(host, "disconnect_user", json!({"user": user}))
            }
            4 if self.plan.policy == Policy::Callback => {
                self.reloads += 1;
                install(self.plan.certs, if self.reloads.is_multiple_of(2) { "server" } else { "other" })?;
                self.carry_out(host, "reload_tls", json!({}))
            }
            _ => {
                host.stats()?;
                self.tally.command("stats");
                Ok(())
            }
        }
    }

    fn carry_out(&self, host: &mut Host, name: &'static str, mut command: Value) -> Outcome {
        command["do"] = name.into();
        let done = host.command(&command)?;
        ensure!(done["ok"] != false, "{name} failed: {done}");
        self.tally.command(name);
        Ok(())
    }
}

/// Puts a pair of certificate and key where the server reads it.
fn install(certs: &Certs, name: &str) -> Outcome {
    for end in ["pem", "key"] {
        let fresh = certs.dir.join(format!("fresh.{end}"));
        fs::copy(certs.dir.join(format!("{name}.{end}")), &fresh)?;
        fs::rename(fresh, certs.dir.join(format!("{}.{end}", Policy::CERTIFICATE)))?;
    }
    Ok(())
}

/// Everybody has left: every gauge returns to 0 and every descriptor comes back.
fn aftermath(node: &mut Node, report: &mut Report) -> Outcome {
    let began = Instant::now();
    let Node { host, descriptors, .. } = node;
    let descriptors = *descriptors;
    loop {
        let stats = host.stats()?;
        report.gauges = gauges(&stats);
        report.descriptors = (descriptors, host.group.descriptors());
        report.verdicts = stats["verdicts"].clone();
        let settled = report.gauges.is_empty() && report.descriptors.1 <= descriptors;
        if settled || began.elapsed() > SETTLING {
            report.memory.end = host.group.resident_kib();
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn drain(host: &mut Host) -> Outcome {
    host.tell(&json!({"do": "drain", "timeout_ms": 5000, "jitter_ms": 0}))?;
    match host.exit_code(PATIENCE) {
        Ok(0) => Ok(()),
        Ok(code) => fail!("drained, and ended with {code}: {}", host.log_tail()),
        Err(Failure(what)) => fail!("drained, but {what}"),
    }
}
