//! `wsguard-cluster-test`: nodes of different languages on real Redis servers, Sentinels and Clusters. Each test proves one
//! promise of a cluster while something goes wrong, with clients that must lose nothing else.

mod application;
mod example;
mod faults;
mod figures;
mod ground;
mod groups;
mod harness;
mod limits;
mod outside;
mod reach;
mod redis;
mod resp;
mod revocations;
mod starts;
mod tap;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use wsguard_test_support::ensure;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::{HOSTS, Tally};

use ground::Ground;

/// One test.
struct Test {
    /// Its name, for `--filter`.
    name: &'static str,
    /// What a cluster promises, in a few words.
    promise: &'static str,
    /// What it does; it returns its measurements.
    run: fn(&Ground) -> Outcome<String>,
}

const TESTS: &[Test] = &[
    Test { name: "harness-redis", promise: "the test's own Redis and network", run: harness::redis_and_tap },
    Test { name: "harness-groups", promise: "the test's own Sentinels and Cluster", run: harness::groups },
    Test { name: "rooms", promise: "each once, in order of the sender", run: reach::rooms },
    Test { name: "users", promise: "to_user on every node, each once", run: reach::users },
    Test { name: "everyone-and-except", promise: "broadcast reaches every node; except holds", run: reach::everyone },
    Test { name: "own-members-without-redis", promise: "served at once, without Redis", run: reach::own_members },
    Test { name: "publish-from-outside", promise: "PUBLISH by any client reaches members", run: outside::publish },
    Test { name: "malformed-from-outside", promise: "nothing malformed is delivered", run: outside::malformed },
    Test { name: "disconnect-user", promise: "closed on every node", run: revocations::disconnect },
    Test { name: "disconnect-cut-off", promise: "closed on a node that was cut off", run: revocations::cut_off },
    Test { name: "bans", promise: "on every node, also on later ones", run: revocations::bans },
    Test { name: "seats", promise: "max_connections_per_user is the cluster's", run: limits::seats },
    Test { name: "seats-in-a-rush", promise: "not one too many, however many ask", run: limits::seats_in_a_rush },
    Test { name: "rate-of-three-nodes", promise: "burst + rate*t + a lease each", run: limits::shared_rate },
    Test { name: "rate-under-floods", promise: "burst + rate*t + a lease each", run: limits::flooded },
    Test { name: "rate-moves-along", promise: "another node is no fresh burst", run: limits::moves_along },
    Test { name: "rate-without-redis", promise: "no round trip per message", run: limits::alone },
    Test { name: "node-killed", promise: "nothing left behind after lease_ms", run: faults::node_killed },
    Test { name: "node-drains", promise: "nothing left behind, nothing lost", run: faults::node_drains },
    Test { name: "redis-restarts", promise: "local, then as before", run: faults::redis_restarts },
    Test { name: "redis-paused", promise: "no shard waits for Redis", run: faults::redis_paused },
    Test { name: "redis-full", promise: "as if it were away", run: faults::redis_full },
    Test { name: "network-cut", promise: "one node alone, then as before", run: faults::network_cut },
    Test { name: "network-silent", promise: "one node alone, then as before", run: faults::network_silent },
    Test { name: "network-slow", promise: "slow, and nothing lost", run: faults::network_slow },
    Test { name: "flushed", promise: "seats, bans and rooms come back", run: faults::flushed },
    Test { name: "closed-without-redis", promise: "cluster_unavailable 503, readyz 503", run: faults::closed },
    Test { name: "deaf-subscription", promise: "noticed within 5 s", run: faults::deaf },
    Test { name: "subscriptions-killed", promise: "noticed within 5 s", run: faults::subscriptions_killed },
    Test { name: "wrong-password", promise: "a start error without the secret", run: starts::wrong_password },
    Test { name: "least-rights", promise: "the ACL of docs/SCALING.md is enough", run: starts::least_rights },
    Test { name: "few-rights", promise: "a start error that names what is denied", run: starts::few_rights },
    Test { name: "failures-told", promise: "what Redis refuses is in the log", run: starts::failures_told },
    Test { name: "old-redis", promise: "a start error below 6.2", run: starts::old_version },
    Test { name: "redis-comes-later", promise: "a warning, and tried again", run: starts::redis_comes_later },
    Test { name: "tls", promise: "rediss, with a certificate that is checked", run: starts::over_tls },
    Test { name: "sentinel", promise: "a fail-over loses no limit", run: groups::cases::sentinel },
    Test { name: "sharded", promise: "a Redis Cluster is one Redis", run: groups::cases::sharded },
    Test { name: "sharded-master-killed", promise: "a fail-over of a shard", run: groups::cases::master_killed },
    Test { name: "nginx-example", promise: "no sticky sessions", run: example::nginx_in_front },
];

#[derive(Debug, Parser)]
#[command(about = "Runs nodes on real Redis servers, with faults")]
struct Arguments {
    /// The hosts that are the first, second, third … node; in the next test each of them one further on
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "rust,python,node,c")]
    host: Vec<String>,
    /// Only the tests with this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Where the hosts are
    #[arg(long, value_name = "DIR", default_value = HOSTS, hide_default_value = true)]
    hosts: PathBuf,
    /// Measure what a cluster costs, as docs/SCALING.md has it, and run no test
    #[arg(long)]
    figures: bool,
    /// Say which tests there are, and run none
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if application::is_wanted() {
        return application::main();
    }
    match run_all(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("wsguard-cluster-test: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run_all(arguments: &Arguments) -> Outcome<bool> {
    let chosen = |test: &&Test| arguments.filter.as_deref().is_none_or(|filter| test.name.contains(filter));
    let tests = TESTS.iter().filter(chosen);
    if arguments.list {
        tests.for_each(|test| println!("{:28} {}", test.name, test.promise));
        return Ok(true);
    }
    let hosts = arguments.host.iter().map(|name| arguments.hosts.join(name).join("run")).collect::<Vec<_>>();
    for host in &hosts {
        ensure!(host.is_file(), "{} is missing", host.display());
    }
    let mut ground = Ground { hosts };
    if arguments.figures {
        return figures::print(&ground).map(|()| true);
    }
    let mut tally = Tally::default();
    for test in tests {
        // Most tests have two or three nodes: each language has its turn.
        ground.hosts.rotate_left(1);
        tally.run(&format!("{:26}", test.name), &format!("{}: ", test.promise), || (test.run)(&ground));
    }
    Ok(tally.end(&format!(", on {}", arguments.host.join(", "))))
}
