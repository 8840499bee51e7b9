//! What `check` asks of the machine: the time, the memory, the modes of files with keys, the certificate.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use wsguard::binding::{CertificateFacts, Error, examine_tls};

use super::scope::Scope;
use crate::policy::Read;

/// A file with a secret in it that others than its owner reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenFile {
    /// The option that names it.
    pub(crate) option: String,
    pub(crate) path: String,
    /// Everybody on this machine can read it.
    pub(crate) is_readable: bool,
    /// Somebody else can write it.
    pub(crate) is_writable: bool,
    /// It holds a secret: a private key, or a policy with one.
    pub(crate) is_secret: bool,
}

/// What the warnings are judged by, beside the policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) now_unix_s: u64,
    /// The memory of this machine in bytes, where it says so.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) open_files: Vec<OpenFile>,
    pub(crate) certificate: Option<CertificateFacts>,
}

impl Facts {
    /// Asks.
    ///
    /// # Errors
    /// `tls` cannot be used: a server would not start.
    pub(crate) fn of(read: &Read, policy_file: Option<&Path>) -> Result<Self, Error> {
        let certificate = read.options.tls.as_ref().map(examine_tls).transpose()?;
        Ok(Self {
            now_unix_s: now_unix_s(),
            memory_bytes: memory_bytes(),
            open_files: open_files(&read.stated, policy_file),
            certificate,
        })
    }
}

pub(crate) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The keys, and the policy itself. Who reads a public key, or a policy without secrets, learns nothing; who writes one is let in.
fn open_files(stated: &Value, policy_file: Option<&Path>) -> Vec<OpenFile> {
    let mut files = Vec::new();
    let key = stated.pointer("/tls/key").map(paths_in).unwrap_or_default();
    files.extend(key.into_iter().map(|path| ("tls.key".to_owned(), path, true)));
    for scope in Scope::served(stated.as_object().unwrap_or(&Map::new())) {
        for name in ["key", "keys"].into_iter().filter(|_| scope.states("auth")) {
            let auth = scope.value("auth");
            let keys = auth.pointer(&format!("/jwt/{name}")).map(paths_in).unwrap_or_default();
            files.extend(keys.into_iter().map(|path| (scope.path(&format!("auth.jwt.{name}")), path, false)));
        }
    }
    files.extend(policy_file.map(|path| ("options".to_owned(), path.to_owned(), super::shown::holds_secrets(stated))));
    let look = |(option, path, is_secret): (String, PathBuf, bool)| {
        let mode = mode(&path)?;
        // A group of one's own is usual where nothing is secret.
        let (is_readable, is_writable) =
            (is_secret && mode & 0o004 != 0, mode & if is_secret { 0o022 } else { 0o002 } != 0);
        let path = crate::terminal::harmless(&path.display().to_string(), 256);
        (is_readable || is_writable).then_some(OpenFile { option, path, is_readable, is_writable, is_secret })
    };
    files.into_iter().filter_map(look).collect()
}

/// The paths of keys, of which there may be several.
fn paths_in(keys: &Value) -> Vec<PathBuf> {
    match keys {
        Value::Array(list) => list.iter().flat_map(paths_in).collect(),
        Value::Object(members) => members.values().flat_map(paths_in).collect(),
        key => key.as_str().filter(|text| super::shown::is_path(text)).map(PathBuf::from).into_iter().collect(),
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(std::fs::metadata(path).ok()?.permissions().mode())
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}
