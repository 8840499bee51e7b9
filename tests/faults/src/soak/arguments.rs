//! The command line, and which hosts there are.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wsguard_faults::outcome::{Failure, Outcome};
use wsguard_faults::{ensure, fail};

const USAGE: &str = "[--minutes 30] [--hosts rust,c] [--seed N] [--only ATTACK,…] [--directory DIR]";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// How long each host is attacked.
    pub(crate) span: Duration,
    /// Where chance comes from.
    pub(crate) seed: u64,
    /// Where the hosts are.
    pub(crate) directory: PathBuf,
    /// The kinds of attack; all when empty.
    pub(crate) only: Vec<String>,
    hosts: Option<Vec<String>>,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hosts");
        let mut parsed =
            Self { span: Duration::from_secs(30 * 60), seed: any_seed(), directory, only: Vec::new(), hosts: None };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| Failure(format!("{word} wants a value; {USAGE}")))?;
            match word.as_str() {
                "--minutes" => parsed.span = minutes(&value)?,
                "--hosts" => parsed.hosts = Some(value.split([',', ' ']).map(str::to_owned).collect()),
                "--only" => parsed.only = value.split(',').map(str::to_owned).collect(),
                "--seed" => parsed.seed = value.parse().map_err(|_| Failure("--seed wants a whole number".into()))?,
                "--directory" => parsed.directory = value.into(),
                _ => return fail!("unknown argument {word:?}; {USAGE}"),
            }
        }
        Ok(parsed)
    }

    /// Those that were asked for, which must be there; or all that are built.
    pub(crate) fn hosts(&self) -> Outcome<Vec<String>> {
        if let Some(hosts) = &self.hosts {
            for host in hosts {
                ensure!(self.is_built(host), "host {host:?} is not built: `make hosts` does it");
            }
            return Ok(hosts.clone());
        }
        let hosts = ["rust", "c", "python", "node"].into_iter().filter(|host| self.is_built(host));
        let hosts = hosts.map(str::to_owned).collect::<Vec<_>>();
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
fn minutes(text: &str) -> Outcome<Duration> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.25..=10_000.0).contains(&minutes) => Ok(Duration::from_secs_f64(minutes * 60.0)),
        _ => fail!("--minutes wants a number from 0.25 to 10000, got {text:?}"),
    }
}

fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as u64 % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn minutes_hosts_and_seed_are_taken() {
        let parsed = parse("--minutes 0.5 --seed 7 --hosts rust,c").unwrap();
        assert_eq!((parsed.span, parsed.seed), (Duration::from_secs(30), 7));
        assert_eq!(parsed.hosts.unwrap(), ["rust", "c"]);
        assert_eq!(parse("").unwrap().span, Duration::from_secs(1800));
        for wrong in ["--minutes 0", "--minutes soon", "--seed x", "--minutes", "--what 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
