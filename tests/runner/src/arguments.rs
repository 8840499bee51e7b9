//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs every scenario of tests/scenarios against every host, over plain TCP and TLS
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Only these hosts
    #[arg(long = "host", value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) hosts: Option<Vec<String>>,
    /// Only over these
    #[arg(long = "transport", value_name = "plain,tls", value_delimiter = ',', hide_default_value = true,
          default_values = ["plain", "tls"], value_parser = ["plain", "tls"], hide_possible_values = true)]
    pub(crate) transports: Vec<String>,
    /// Only the cases with this in their name, or of the threat with this id
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// How many hosts run at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) jobs: usize,
    /// Say which cases there are, and run none
    #[arg(long)]
    pub(crate) list: bool,
    /// Print, for each threat, how many cases passed on each host
    #[arg(long)]
    pub(crate) table: bool,
    /// Say which N took longest
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) slowest: usize,
    /// Name what passed and what was skipped, too
    #[arg(long)]
    pub(crate) verbose: bool,
    /// The directory with `scenarios` and `hosts`
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."), hide_default_value = true)]
    pub(crate) root: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["wsguard-runner"].into_iter().chain(text.split_whitespace()))
    }

    #[test]
    fn arguments_parse() {
        let parsed = parse("--host rust,c --filter H1 --jobs 2 --table").unwrap();
        assert_eq!(parsed.hosts, Some(vec!["rust".into(), "c".into()]));
        assert_eq!((parsed.jobs, parsed.table, parsed.list), (2, true, false));
        assert_eq!(parsed.transports, ["plain", "tls"]);
        assert_eq!(parse("--transport tls").unwrap().transports, ["tls"]);
        for wrong in ["--transport quic", "--jobs", "--jobs x", "--nonsense", "H1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
