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
        open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn is_file(&self, path: &str) -> bool {
        Path::new(path).is_file()
    }

    fn is_directory(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }
}

/// Opens a file to be read. To open a pipe waits for somebody who writes it, perhaps for ever; opened so, one that nobody writes is
/// empty, and one that somebody writes is read to its end.
#[cfg(unix)]
fn open(path: &str) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::{OFlags, fcntl_setfl};

    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

#[cfg(not(unix))]
fn open(path: &str) -> io::Result<File> {
    File::open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// What is read of a pipe while somebody holds it who wrote `writer`, or nobody does.
    #[expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
    fn read_of_pipe(name: &str, writer: Option<&str>) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("wsguard-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Opened for both ways, a pipe waits for nobody.
        let held = writer.map(|text| {
            let mut held = File::options().read(true).write(true).open(&path).unwrap();
            io::Write::write_all(&mut held, text.as_bytes()).unwrap();
            held
        });
        let (read, result) = mpsc::channel();
        let text = path.to_str().unwrap().to_owned();
        std::thread::spawn(move || {
            let mut some = [0; 16];
            let count = open(&text).and_then(|mut file| file.read(&mut some)).unwrap();
            let _ = read.send(some[..count].to_vec());
        });
        let read = result.recv_timeout(Duration::from_secs(60));
        drop(held);
        std::fs::remove_file(&path).unwrap();
        read.expect("it waits")
    }

    #[test]
    fn a_pipe_that_nobody_writes_is_not_waited_for() {
        assert_eq!(read_of_pipe("empty", None), b"");
        assert_eq!(read_of_pipe("written", Some("key")), b"key");
    }
}
