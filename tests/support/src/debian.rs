//! Tools that the tests need from Debian packages.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use crate::outcome::{Outcome, ensure, fail};

/// Whether this process may do anything.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Makes sure that one of `paths` is there: installs `package` when this is root, and otherwise says what is missing.
pub fn provide<'p>(paths: &[&'p str], package: &str) -> Outcome<&'p Path> {
    let find = || paths.iter().copied().map(Path::new).find(|path| path.exists());
    if let Some(path) = find() {
        return Ok(path);
    }
    ensure!(is_root(), "{} is missing: apt-get install {package}", paths[0]);
    eprintln!("installing the Debian package {package}");
    let status = Command::new("apt-get")
        .args(["install", "-y", "-q", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    match find() {
        Some(path) if status.success() => Ok(path),
        _ => fail!("apt-get install {package} ended with {status}, and {} is still missing", paths[0]),
    }
}
