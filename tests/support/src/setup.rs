//! How a test host is started: its options, and what is wrong with the world it comes into.

use std::fs::OpenOptions;
use std::io::{PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};

use crate::host::Host;
use crate::outcome::{Outcome, ensure};

/// Where a host's standard error goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// To this test, which reads it.
    #[default]
    Read,
    /// Nowhere: the descriptor is closed.
    Closed,
    /// To a disk that is full.
    FullDisk,
    /// To a pipe whose reader is gone.
    BrokenPipe,
    /// To a pipe that is full and that nobody reads: whoever writes waits.
    FullPipe,
    /// To the same, where whoever writes is told that it is full.
    FullPipeThatDoesNotBlock,
}

impl Log {
    /// Where the host writes, and what must stay open meanwhile.
    fn open(self) -> Outcome<(Stdio, Option<PipeReader>)> {
        let (reader, writer) = match self {
            Self::Read => return Ok((Stdio::piped(), None)),
            Self::Closed => return Ok((Stdio::null(), None)),
            Self::FullDisk => return Ok((OpenOptions::new().write(true).open("/dev/full")?.into(), None)),
            Self::BrokenPipe | Self::FullPipe | Self::FullPipeThatDoesNotBlock => std::io::pipe()?,
        };
        if self == Self::BrokenPipe {
            return Ok((writer.into(), None));
        }
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        while (&writer).write(&[b'.'; 4096]).is_ok() {}
        if self == Self::FullPipe {
            fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
        }
        Ok((writer.into(), Some(reader)))
    }
}

/// How a host is started.
#[derive(Clone, Debug)]
pub struct Setup {
    options: Value,
    app: Value,
    quiet: bool,
    descriptors: Option<u32>,
    environment: Vec<(String, String)>,
    log: Log,
}

impl Setup {
    /// With these options. Without `listen` it takes any free port of 127.0.0.1.
    pub fn new(mut options: Value) -> Self {
        if let Some(options) = options.as_object_mut() {
            options.entry("listen").or_insert_with(|| "127.0.0.1:0".into());
        }
        Self { options, app: json!({}), quiet: true, descriptors: None, environment: Vec::new(), log: Log::Read }
    }

    /// Changes one option.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options[name] = value.into();
        self
    }

    /// Its options.
    pub fn options(&self) -> &Value {
        &self.options
    }

    /// What its application is told.
    #[must_use]
    pub fn app(mut self, app: Value) -> Self {
        self.app = app;
        self
    }

    /// It prints its events.
    #[must_use]
    pub fn with_events(mut self) -> Self {
        self.quiet = false;
        self
    }

    /// It starts with this limit of open files.
    #[must_use]
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Its standard error goes there.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self, run: &Path) -> Outcome<Host> {
        let before = match (self.descriptors, self.log) {
            (Some(limit), _) => Some(format!("ulimit -n {limit} && exec \"$0\" \"$@\"")),
            (None, Log::Closed) => Some("exec \"$0\" \"$@\" 2>&-".to_owned()),
            (None, _) => None,
        };
        let mut command = match before {
            None => Command::new(run),
            Some(script) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(script).arg(run);
                command
            }
        };
        let (stderr, unread) = self.log.open()?;
        command.args(self.quiet.then_some("--quiet")).envs(self.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        // There may be very many messages, and no test asks for them.
        let keep = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|event| event["type"] != "message");
        let (mut host, answer) = Host::start(command, &json!({"options": self.options, "app": self.app}), keep)?;
        host.unread = unread;
        ensure!(answer["type"] == "listening", "the host refused its options: {answer}");
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What a host finds that prints its limit of open files, its arguments and whether it can write to its log.
    fn found(setup: Setup) -> Value {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        let script = r#"#!/bin/sh
            read options
            logs=$( (echo hello >&2) && echo yes || echo no)
            echo "{\"type\":\"listening\",\"addr\":\"$(ulimit -n)\"}"
            echo "{\"type\":\"found\",\"argument\":\"$1\",\"logs\":\"$logs\",\"name\":\"$NAME\",\"options\":$options}"
            read end
        "#;
        std::fs::write(&run, script).unwrap();
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o755)).unwrap();
        let host = setup.start(&run).unwrap();
        let mut found = host.event(crate::wire::PATIENCE, |event| event["type"] == "found").unwrap();
        found["limit"] = host.target.address.clone().into();
        found
    }

    #[test]
    fn a_host_gets_what_was_set() {
        let setup = Setup::new(json!({"threads": 1})).option("threads", 2).app(json!({"a": 1}));
        let found = found(setup.descriptors(77).environment("NAME", "value"));
        assert_eq!(
            (&found["limit"], &found["argument"], &found["name"]),
            (&json!("77"), &json!("--quiet"), &json!("value"))
        );
        assert_eq!(found["options"], json!({"options": {"threads": 2, "listen": "127.0.0.1:0"}, "app": {"a": 1}}));
        assert_eq!(found["logs"], "yes");
    }

    #[test]
    fn logs_that_cannot_be_written_cannot_be_written() {
        for log in [Log::Closed, Log::FullDisk, Log::BrokenPipe, Log::FullPipeThatDoesNotBlock] {
            let found = found(Setup::new(json!({})).log(log).with_events());
            assert_eq!((&found["logs"], &found["argument"]), (&json!("no"), &json!("")), "{log:?}");
        }
    }
}
