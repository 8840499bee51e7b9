//! Installs the peers that come from a package registry, once; whoever cannot be installed is absent, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::candidates::{Candidate, Kind, node_peers, python_peers};

/// Whom this run does without, and why.
pub type Absences = BTreeMap<&'static str, String>;

/// Installs what `candidates` need, and says who is absent all the same.
pub fn install(candidates: &[&'static Candidate], repository: &Path) -> Absences {
    let any = |kind: fn(&Kind) -> bool| candidates.iter().any(|candidate| kind(&candidate.kind));
    let node = any(is_javascript).then(|| npm(&node_peers(repository)));
    let python = any(is_python).then(|| pip(&python_peers(repository)));
    let failure = |outcome: &Option<Result<()>>| match outcome {
        Some(Err(error)) => Some(format!("{error:#}")),
        _ => None,
    };
    let (node, python) = (failure(&node), failure(&python));
    let absence = |candidate: &&&'static Candidate| {
        let installing = match candidate.kind {
            kind if is_javascript(&kind) => node.clone(),
            kind if is_python(&kind) => python.clone(),
            _ => None,
        };
        installing.or_else(|| (!candidate.is_installed(repository)).then(|| "not installed".to_owned()))
    };
    candidates.iter().filter_map(|candidate| Some((candidate.name, absence(&candidate)?))).collect()
}

fn is_javascript(kind: &Kind) -> bool {
    matches!(kind, Kind::Node(_) | Kind::Bun(_))
}

fn is_python(kind: &Kind) -> bool {
    matches!(kind, Kind::Python(_))
}

fn npm(folder: &Path) -> Result<()> {
    once(&folder.join("package-lock.json"), &folder.join("node_modules/.installed"), || {
        run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(folder))
    })
}

fn pip(folder: &Path) -> Result<()> {
    let requirements = folder.join("requirements.txt");
    once(&requirements, &folder.join(".venv/.installed"), || {
        run(Command::new("python3").args(["-m", "venv", "--clear", ".venv"]).current_dir(folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run(Command::new(folder.join(".venv/bin/python")).args(install).current_dir(folder))
    })
}

/// Runs `install` unless `stamp` says that it ran for this very `list`.
fn once(list: &Path, stamp: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = fs::read_to_string(list).with_context(|| format!("reading {}", list.display()))?;
    if fs::read_to_string(stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("installing what {} lists", list.display());
    install()?;
    fs::write(stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let described = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {described}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let why = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(output.status.success(), "{} failed: {why}", command.get_program().display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_installed_once() {
        let folder = tempfile::tempdir().unwrap();
        let (list, stamp) = (folder.path().join("list"), folder.path().join("stamp"));
        fs::write(&list, "a 1").unwrap();
        let mut runs = 0;
        let mut install = || {
            once(&list, &stamp, || {
                runs += 1;
                Ok(())
            })
            .unwrap();
            runs
        };
        assert_eq!((install(), install()), (1, 1));
        fs::write(&list, "a 2").unwrap();
        assert_eq!(install(), 2);
    }

    #[test]
    fn a_failed_installation_is_tried_again_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let (list, stamp) = (folder.path().join("list"), folder.path().join("stamp"));
        fs::write(&list, "a 1").unwrap();
        assert!(once(&list, &stamp, || run(&mut Command::new("false"))).is_err());
        assert!(!stamp.exists());
    }
}
