//! The command line, and which hosts there are.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use wsguard_test_support::host::NAMES;
use wsguard_test_support::outcome::{Outcome, ensure};
use wsguard_test_support::suite::HOSTS;

/// Puts every host under all attacks at once, with honest clients beside them
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// How long each host is attacked
    #[arg(long = "minutes", value_name = "MINUTES", default_value = "30", value_parser = minutes)]
    pub(crate) span: Duration,
    /// Only these hosts; without it all that are built
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    hosts: Option<Vec<String>>,
    /// Where chance comes from; without it the clock
    #[arg(long, value_name = "N", default_value_t = any_seed(), hide_default_value = true)]
    pub(crate) seed: u64,
    /// Only these kinds of attack
    #[arg(long, value_name = "ATTACK,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Where the hosts are
    #[arg(long, value_name = "DIR", default_value = HOSTS, hide_default_value = true)]
    pub(crate) directory: PathBuf,
}

impl Arguments {
    /// Those that were asked for, which must be there; or all that are built.
    pub(crate) fn hosts(&self) -> Outcome<Vec<String>> {
        if let Some(hosts) = &self.hosts {
            for host in hosts {
                ensure!(self.is_built(host), "host {host:?} is not built: `make hosts` does it");
            }
            return Ok(hosts.clone());
        }
        let hosts = NAMES.iter().filter(|host| self.is_built(host));
        let hosts = hosts.map(|host| (*host).to_owned()).collect::<Vec<_>>();
        ensure!(!hosts.is_empty(), "no host is built: `make hosts` does it");
        Ok(hosts)
    }

    /// Whether what `make hosts` makes of it is there.
    fn is_built(&self, host: &str) -> bool {
        let bindings = |path: &str| self.directory.join("../..").join(path);
        let built = match host {
            "python" if std::env::var_os("WSGUARD_PYTHON").is_some() => true,
            "python" => bindings("bindings-python/.venv/bin/python").exists(),
            "node" => std::fs::read_dir(bindings("bindings-node")).is_ok_and(|files| {
                files.flatten().any(|file| file.path().extension().is_some_and(|end| end == "node"))
            }),
            _ => self.directory.join(host).join("wsguard-host").exists(),
        };
        built && self.directory.join(host).join("run").exists()
    }
}

/// At least a quarter of a minute: memory is read in every quarter of the time.
fn minutes(text: &str) -> Result<Duration, &'static str> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.25..=10_000.0).contains(&minutes) => Ok(Duration::from_secs_f64(minutes * 60.0)),
        _ => Err("a number from 0.25 to 10000 is wanted"),
    }
}

fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as u64 % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["wsguard-soak"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn minutes_hosts_and_seed_are_taken() {
        let parsed = parse("--minutes 0.5 --seed 7 --hosts rust,c").unwrap();
        assert_eq!((parsed.span, parsed.seed), (Duration::from_secs(30), 7));
        assert_eq!(parsed.hosts.unwrap(), ["rust", "c"]);
        assert_eq!(parse("--only churn,noise").unwrap().only, ["churn", "noise"]);
        assert_eq!(parse("").unwrap().span, Duration::from_secs(1800));
        for wrong in ["--minutes 0", "--minutes soon", "--seed x", "--minutes", "--what 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
