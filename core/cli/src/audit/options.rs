//! The options of `wsguard audit`, and what they mean together.

use std::path::PathBuf;
use std::time::Duration;

use super::access::{Access, Place, pair};
use super::checks::{CHECKS, Check, by_name};
use super::mends::LIBRARIES;
use super::ruling::Severity;
use crate::outcome::Failure;
use crate::reach::Responsible;

/// Examine a WebSocket server that you are responsible for: what it lets through, how bad that is, and how to mend it.
///
/// A value of a credential may be `env:NAME` or `file:PATH`: what stands on a command line is seen by every user of the machine.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of a command are just that")]
pub(crate) struct Args {
    /// The server: `ws://HOST[:PORT]/PATH` or `wss://…`; a path with `/socket.io/` is spoken to as Socket.IO.
    #[arg(required_unless_present = "list")]
    pub(crate) url: Option<String>,
    /// An origin that is let in; without it that of the URL is tried, then none.
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// The credential that is let in; best `env:NAME` or `file:PATH`, here and wherever a credential is given: every user of the
    /// machine sees a command line.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Where the token stands: bearer, header:NAME, cookie:NAME, query:NAME, subprotocol, or socket.io:NAME (in `auth`).
    #[arg(long, value_name = "SOURCE", default_value = "bearer")]
    token_source: String,
    /// A header that is a credential: `Name: value`.
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// A cookie that is a credential: `name=value`.
    #[arg(long, value_name = "COOKIE")]
    cookie: Vec<String>,
    /// A parameter of the URL that is a credential: `name=value`.
    #[arg(long, value_name = "PARAMETER")]
    query: Vec<String>,
    /// A subprotocol to offer, no credential.
    #[arg(long, value_name = "NAME")]
    subprotocol: Vec<String>,
    /// A text message that is valid there; best one that changes nothing. It is sent some hundred times.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// A file of authorities (PEM) that may have signed the certificate, besides those of this machine.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Send credentials even if the certificate is not to be trusted.
    #[arg(long)]
    pub(crate) trust_any_certificate: bool,
    #[command(flatten)]
    pub(crate) responsible: Responsible,
    /// Only these checks.
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,
    /// Not these checks.
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    skip: Vec<String>,
    /// New connections a second.
    #[arg(long, value_name = "NUMBER", default_value_t = 5.0)]
    pub(crate) rate: f64,
    /// How long an answer may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    timeout: u64,
    /// How long unfinished requests are held, in seconds; from 60 on, silent peers and unfinished messages too. Apache ends
    /// them after 20 by default.
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    patience: u64,
    /// The exit code is 1 from this severity on.
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Low)]
    pub(crate) fail_on: FailOn,
    /// The exit code is 1 also if a check could not be told.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Advice for this library alone: ws, uWebSockets, python-websockets, uvicorn, Socket.IO, wsguard.
    #[arg(long, value_name = "NAME")]
    pub(crate) library: Option<String>,
    /// Print one JSON object on standard output, and the plan on standard error.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the plan, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the checks, and send nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// With --list: as the document docs/AUDIT.md has them.
    #[arg(long, requires = "list")]
    pub(crate) markdown: bool,
}

/// From which severity on a finding is a failure.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FailOn {
    /// High alone.
    High,
    /// Medium and high.
    Medium,
    /// Every finding.
    Low,
    /// None.
    Never,
}

impl FailOn {
    pub(crate) fn severity(self) -> Option<Severity> {
        match self {
            Self::High => Some(Severity::High),
            Self::Medium => Some(Severity::Medium),
            Self::Low => Some(Severity::Low),
            Self::Never => None,
        }
    }
}

impl Args {
    pub(crate) fn access(&self) -> Result<Access, Failure> {
        let mut access = Access::default();
        let source = Place::parse(&self.token_source)?;
        if let Some(token) = &self.token {
            access.add(source, token)?;
        }
        for header in &self.header {
            let (name, value) = pair("--header", header, ':')?;
            access.add(Place::Header(name.to_owned()), value)?;
        }
        for cookie in &self.cookie {
            let (name, value) = pair("--cookie", cookie, '=')?;
            access.add(Place::Cookie(name.to_owned()), value)?;
        }
        for parameter in &self.query {
            let (name, value) = pair("--query", parameter, '=')?;
            access.add(Place::Query(name.to_owned()), value)?;
        }
        Ok(access)
    }

    /// What goes into the head as it is.
    pub(crate) fn checked_origin(&self) -> Result<Option<&str>, Failure> {
        match self.origin.as_deref() {
            Some(origin) if origin.bytes().any(|byte| !byte.is_ascii_graphic()) => {
                Err(Failure::new("--origin: expected printable ASCII without spaces, as https://app.example"))
            }
            origin => Ok(origin),
        }
    }

    pub(crate) fn subprotocols(&self) -> Result<Vec<String>, Failure> {
        match self.subprotocol.iter().find(|name| name.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b',')) {
            Some(_) => Err(Failure::new("--subprotocol: expected one name, a token of RFC 9110")),
            None => Ok(self.subprotocol.clone()),
        }
    }

    pub(crate) fn ordinary_message(&self) -> Result<Option<String>, Failure> {
        match &self.message {
            Some(text) if text.len() > 1024 => {
                Err(Failure::new(format!("--message: {} bytes, at most 1024 are allowed", text.len())))
            }
            message => Ok(message.clone()),
        }
    }

    pub(crate) fn checks(&self) -> Result<Vec<&'static Check>, Failure> {
        for name in self.only.iter().chain(&self.skip) {
            if by_name(name).is_none() {
                return Err(Failure::new(format!("no check is named {name:?}; --list names them")));
            }
        }
        let has = |list: &[String], check: &Check| list.iter().any(|name| name == check.name);
        let wanted = CHECKS.iter().filter(|check| self.only.is_empty() || has(&self.only, check));
        let wanted: Vec<_> = wanted.filter(|check| !has(&self.skip, check)).collect();
        if wanted.is_empty() {
            return Err(Failure::new("--only and --skip leave no check"));
        }
        Ok(wanted)
    }

    pub(crate) fn check_library(&self) -> Result<(), Failure> {
        match &self.library {
            Some(name) if !LIBRARIES.iter().any(|known| known.eq_ignore_ascii_case(name)) => {
                Err(Failure::new(format!("--library: {name:?} is none of {}", LIBRARIES.join(", "))))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn timeout(&self) -> Result<Duration, Failure> {
        within("--timeout", self.timeout, 1, 60)
    }

    pub(crate) fn patience(&self) -> Result<Duration, Failure> {
        within("--patience", self.patience, 5, 600)
    }

    pub(crate) fn checked_rate(&self) -> Result<f64, Failure> {
        if (0.1..=100.0).contains(&self.rate) {
            return Ok(self.rate);
        }
        Err(Failure::new(format!("--rate: {} is not from 0.1 to 100", self.rate)))
    }
}

fn within(option: &str, seconds: u64, least: u64, most: u64) -> Result<Duration, Failure> {
    if (least..=most).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Failure::new(format!("{option}: {seconds} is not from {least} to {most} seconds")))
}
