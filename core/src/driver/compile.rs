//! From options to the policy in force: the pure layer decides, this answers what it asks of the machine (which files
//! there are and what they hold, how many cores).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::jwks;
use wsguard_proto::config::{Options, PolicySet};
use wsguard_proto::config_error::ConfigError;
use wsguard_proto::files::{Files, MAX_FILE_BYTES};

/// An id has room for so many shards.
const MAX_THREADS: usize = 255;

/// Checks `options` and compiles them, routes included: origins parsed, schemas compiled, keys loaded. Reads the files that `auth` names.
/// The network is not asked: whether the keys of `auth.jwt.jwks_url` can be fetched shows when a server starts.
///
/// A set of policies is immutable; [`Builder::start_policy`](super::Builder::start_policy) starts a server from it.
///
/// # Errors
/// Names the option that is unknown, missing, not accepted, or contradicts another.
pub fn compile(mut options: Options) -> Result<PolicySet, ConfigError> {
    if options.threads == 0 {
        options.threads = threads(0);
    }
    let set = PolicySet::compile(options, &Disk)?;
    set.jwks().try_for_each(|(policy, jwks)| jwks::check(jwks).map_err(|error| policy.names_route(error)))?;
    Ok(set)
}

/// How many shards `threads` asks for. A policy that was not made by [`compile`] may still say 0, or what no option could.
pub(super) fn threads(stated: usize) -> usize {
    let stated = if stated == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { stated };
    stated.min(MAX_THREADS)
}

/// The files of this machine.
pub(super) struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn is_file(&self, path: &str) -> bool {
        Path::new(path).is_file()
    }

    fn is_directory(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }
}
