//! Reading a policy file: JSON, or TOML by the ending of its name, in the spelling of any face; `-` is standard input.
//!
//! Whatever lies there (a device, a pipe that nobody writes, gigabytes) is refused or read up to a bound, never waited for.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wsguard::binding::{ConfigError, Error, Options, Policy, PolicySet, compile};

use crate::outcome::Failure;
use crate::spelling;
use crate::terminal::{Patient, harmless};

/// A policy of 65535 events with schemas fits; what is longer is something else. In bytes.
const MAX_POLICY_BYTES: u64 = 16 * 1024 * 1024;

/// Which policy a subcommand works on.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Source {
    /// The policy: a JSON or TOML file of options, as `Server.from_file` reads it; - for JSON on standard input.
    #[arg(value_name = "POLICY")]
    pub(crate) path: PathBuf,

    /// An option in place of what the file says, with its value as JSON. May be given several times.
    #[arg(long = "set", value_name = "OPTION=JSON")]
    pub(crate) set: Vec<String>,
}

/// A policy that was read and compiled.
pub(crate) struct Read {
    /// The options as they count: what was stated, and defaults.
    pub(crate) options: Options,
    /// What was stated, with the core's names.
    pub(crate) stated: Value,
    pub(crate) set: PolicySet,
}

impl Source {
    /// Reads the options and compiles them.
    ///
    /// # Errors
    /// What a server would say that is started with them, with the file's name.
    pub(crate) fn compile(&self) -> Result<Read, Failure> {
        let (options, stated) = self.options()?;
        let set = compile(options.clone()).map_err(|error| self.wrong(&error))?;
        set.top.check_listening().map_err(|error| self.wrong(&error))?;
        Ok(Read { options, stated, set })
    }

    /// Reads the options.
    ///
    /// # Errors
    /// As [`compile`](Self::compile), for what is wrong with one option by itself.
    pub(crate) fn options(&self) -> Result<(Options, Value), Failure> {
        let bytes = self.bytes().map_err(|error| Failure::new(format!("{}: {error}", self.name())))?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Failure::new(format!("{}: the policy is not UTF-8 text", self.name())))?;
        let read = if self.is_toml() { from_toml(&text) } else { from_json(&text) };
        let (mut options, mut stated) = read.map_err(|error| self.wrong(&error))?;
        for one in &self.set {
            let (name, json) = one.split_once('=').ok_or_else(|| {
                Failure::new("--set needs an option and its value as JSON, e.g. --set max_connections=1000".to_owned())
            })?;
            let name = name.trim();
            options.set(name, json).map_err(|error| Failure::new(format!("--set: {}", told(&error))))?;
            if let (Some(members), Ok(value)) = (stated.as_object_mut(), serde_json::from_str(json)) {
                members.insert(name.to_owned(), value);
            }
        }
        Ok((options, stated))
    }

    /// What the file is called in messages.
    pub(crate) fn name(&self) -> String {
        if self.is_stdin() { "standard input".to_owned() } else { harmless(&self.path.display().to_string(), 256) }
    }

    /// Whether it is standard input, which is read once.
    pub(crate) fn is_stdin(&self) -> bool {
        self.path == Path::new("-")
    }

    fn is_toml(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"))
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        if self.is_stdin() { bounded(Patient(io::stdin().lock())) } else { bounded(open(&self.path)?) }
    }

    fn wrong(&self, error: &ConfigError) -> Failure {
        Failure::new(format!("{}: {}", self.name(), told(error)))
    }
}

/// An error of the core with its code, as a start says it: `missing_option: origins: …`.
pub(crate) fn told(error: &ConfigError) -> String {
    with_code(&Error::from(error.clone()))
}

/// The same of any error of the core.
pub(crate) fn with_code(error: &Error) -> String {
    format!("{}: {error}", error.code())
}

/// The policies of a set by their path: "" for the top.
pub(crate) fn by_path(set: &PolicySet) -> Vec<&Policy> {
    let mut found: Vec<&Policy> = Vec::new();
    for policy in set.policies() {
        if !found.iter().any(|known| known.path == policy.path) {
            found.push(policy);
        }
    }
    found
}

/// Opens a regular file. A FIFO that nobody writes would wait for ever, and a device may never end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    let kind = file.metadata()?;
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_dir() { "is a directory" } else { "is not a regular file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: give a file, or - for standard input")))
}

fn bounded(source: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(source, MAX_POLICY_BYTES + 1), &mut bytes)?;
    if bytes.len() as u64 > MAX_POLICY_BYTES {
        let message = format!("is longer than {MAX_POLICY_BYTES} bytes: that is no policy");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

fn from_json(text: &str) -> Result<(Options, Value), ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The core's own reader first: what is stated twice, and what is no JSON, it says best.
    let as_stated = Options::from_json(text);
    let Ok(value) = serde_json::from_str::<Value>(text) else { return as_stated.map(|options| (options, Value::Null)) };
    let respelled = spelling::in_snake_case(value.clone())?;
    let options = if respelled == value { as_stated? } else { Options::from_json(&respelled.to_string())? };
    Ok((options, respelled))
}

fn from_toml(text: &str) -> Result<(Options, Value), ConfigError> {
    let value = toml::from_str::<Value>(text);
    let value = value.map_err(|error| {
        // The place and the kind: what stands there may be a credential.
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        ConfigError::invalid("options", format!("is not TOML: {} at line {line}", harmless(error.message(), 120)))
    })?;
    let value = spelling::in_snake_case(value)?;
    Ok((Options::from_value(&value)?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_either_spelling_and_toml_are_one_policy() {
        let json = r#"{"origins": ["https://a.example"], "auth": "none", "max_fragments": 7}"#;
        let node = r#"{"origins": ["https://a.example"], "auth": "none", "maxFragments": 7}"#;
        let toml = "origins = [\"https://a.example\"]\nauth = \"none\"\nmax_fragments = 7\n";
        let read = [from_json(json).unwrap(), from_json(node).unwrap(), from_toml(toml).unwrap()];
        for (options, stated) in read {
            assert_eq!((options.max_fragments, &stated), (7, &serde_json::from_str::<Value>(json).unwrap()));
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_a_start_says_it() {
        let of = |text: &str| told(&from_json(text).unwrap_err());
        assert!(of(r#"{"orgins": []}"#).starts_with("unknown_option: orgins: "), "{}", of(r#"{"orgins": []}"#));
        assert!(of("{").starts_with("invalid_option: options: "));
        assert!(of(r#"{"auth": "none", "auth": "callback"}"#).contains("auth"));
        assert!(of(&"[".repeat(100_000)).starts_with("invalid_option: options: "));
        let toml = told(&from_toml("a = 1\nkey = hunter2").unwrap_err());
        assert!(toml.contains("at line 2") && !toml.contains("hunter2"), "{toml}");
    }
}
