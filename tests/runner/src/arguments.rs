//! The command line.

use std::path::PathBuf;

use crate::failure::{Failure, Outcome, fail};

const USAGE: &str = "wsguard-runner [--host rust,c,python,node] [--transport plain,tls] [--filter TEXT] [--jobs N] \
                     [--list] [--table] [--slowest N] [--verbose] [--root tests/]";

/// What to run and what to print.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// `None`: every host there is.
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) transports: Vec<String>,
    /// A part of the name, or a threat id.
    pub(crate) filter: Option<String>,
    pub(crate) jobs: usize,
    pub(crate) list: bool,
    pub(crate) table: bool,
    pub(crate) slowest: usize,
    pub(crate) verbose: bool,
    /// The directory with `scenarios` and `hosts`.
    pub(crate) root: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut parsed = Self {
            hosts: None,
            transports: vec!["plain".into(), "tls".into()],
            filter: None,
            jobs: 8,
            list: false,
            table: false,
            slowest: 0,
            verbose: false,
            root: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| Failure(format!("{argument} wants a value\n{USAGE}")));
            match argument.as_str() {
                "--host" => parsed.hosts = Some(list(&value()?)),
                "--transport" => parsed.transports = list(&value()?),
                "--filter" => parsed.filter = Some(value()?),
                "--jobs" => parsed.jobs = number(&value()?)?,
                "--slowest" => parsed.slowest = number(&value()?)?,
                "--root" => parsed.root = PathBuf::from(value()?),
                "--list" => parsed.list = true,
                "--table" => parsed.table = true,
                "--verbose" => parsed.verbose = true,
                _ => return fail!("unknown argument {argument:?}\n{USAGE}"),
            }
        }
        if let Some(unknown) = parsed.transports.iter().find(|name| !["plain", "tls"].contains(&name.as_str())) {
            return fail!("unknown transport {unknown:?}: plain or tls");
        }
        Ok(parsed)
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn number(text: &str) -> Outcome<usize> {
    text.parse().map_err(|_| Failure(format!("not a number: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Arguments> {
        Arguments::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_parse() {
        let parsed = parse("--host rust,c --filter H1 --jobs 2 --table").unwrap();
        assert_eq!(parsed.hosts, Some(vec!["rust".into(), "c".into()]));
        assert_eq!((parsed.jobs, parsed.table, parsed.list), (2, true, false));
        assert!(parse("--transport quic").is_err());
        assert!(parse("--jobs").is_err());
        assert!(parse("--nonsense").is_err());
    }
}
