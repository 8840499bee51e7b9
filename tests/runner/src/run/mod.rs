//! Runs one case against one host: start, steps, and the checks that every case ends with.

mod host_steps;
mod wire_steps;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use toml::Table;
use wsguard_test_support::certs::Certs;
use wsguard_test_support::http::ORIGIN;
use wsguard_test_support::outcome::{Failure, Outcome, fail};

use crate::host::Host;
use crate::matcher::{literal, matches, to_json};
use crate::scenario::Case;
use crate::step::{Step, Verb};
use crate::template::substitute;
use crate::wire::Connection;

/// Where a case runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) run: &'a Path,
    pub(crate) transport: &'a str,
    pub(crate) certs: &'a Certs,
}

/// A case in progress.
struct Run<'a> {
    case: &'a Case,
    place: Place<'a>,
    host: Host,
    address: String,
    raw_protocol: bool,
    /// Those of the start: a reload states what differs.
    options: Value,
    dir: PathBuf,
    connections: BTreeMap<String, Connection>,
    /// The connection of the last step.
    current: String,
    marks: BTreeMap<String, Instant>,
    memory: BTreeMap<String, u64>,
    forbidden: Vec<String>,
    exited: bool,
    echoes: u64,
}

/// Runs `case`; the failure names the step.
pub(crate) fn run(case: &Case, place: Place<'_>) -> Outcome {
    let scratch = tempfile::Builder::new().prefix("case").tempdir_in(&place.certs.dir)?;
    let mut vars = Table::new();
    for (name, value) in [
        ("dir", scratch.path().display().to_string()),
        ("certs", place.certs.dir.display().to_string()),
        ("transport", place.transport.to_owned()),
    ] {
        vars.insert(name.into(), value.into());
    }
    for (name, content) in &case.files {
        write_file(place.certs, scratch.path(), name, content.as_str().unwrap_or_default())?;
    }
    let options = options(case, place, &vars)?;
    let raw_protocol = options["protocol"] == "raw";
    let app = literal(&substitute(&toml::Value::Table(case.app.clone()), &vars, &["addr", "port"])?);
    let (mut host, answer) = Host::start(place.run, &json!({"options": &options, "app": app}))?;
    match (answer["type"] == "error", &case.start_error) {
        (false, None) => {}
        (true, Some(wanted)) => return start_refused(&mut host, &to_json(wanted), &answer),
        (false, Some(wanted)) => return fail!("expected a refused start {wanted}, it listens"),
        (true, None) => return fail!("the start was refused: {answer}"),
    }
    let address = host.process.target.address.clone();
    let port = address.rsplit(':').next().unwrap_or_default().to_owned();
    vars.insert("addr".into(), address.clone().into());
    vars.insert("port".into(), port.into());
    let mut run = Run {
        case,
        place,
        host,
        address,
        raw_protocol,
        options,
        dir: scratch.path().to_owned(),
        connections: BTreeMap::new(),
        current: "a".into(),
        marks: BTreeMap::from([("start".into(), Instant::now())]),
        memory: BTreeMap::new(),
        forbidden: Vec::new(),
        exited: false,
        echoes: 0,
    };
    for (index, step) in case.steps.iter().enumerate() {
        let step = substitute(step, &vars, &[])?;
        let shown: String = step.to_string().chars().take(100).collect();
        run.step(&Step::parse(&step)?).map_err(|failure| {
            let log = run.host.log_tail();
            Failure(format!("step {} {shown}: {failure} | log: {log:?}", index + 1))
        })?;
    }
    run.finish().map_err(|failure| Failure(format!("at the end: {failure} | log: {:?}", run.host.log_tail())))
}

/// The default policy with the scenario's options over it; `"@remove"` takes a default away.
fn options(case: &Case, place: Place<'_>, vars: &Table) -> Outcome<Value> {
    let given = literal(&substitute(&toml::Value::Table(case.options.clone()), vars, &["addr", "port"])?);
    let mut options = json!({
        "listen": "127.0.0.1:0",
        "threads": 1,
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": "good", "user": "alice"}]},
        "protocol": "json",
    });
    if given["protocol"] != "raw" {
        options["events"] =
            json!({"echo": {}, "join": {}, "leave": {}, "say": {}, "throw": {}, "block": {}, "close": {}});
    }
    if place.transport == "tls" {
        options["tls"] = json!({"cert": place.certs.path("server.pem"), "key": place.certs.path("server.key")});
    }
    lay_over(&mut options, given);
    Ok(options)
}

/// Options over others; `"@remove"` takes one away.
fn lay_over(options: &mut Value, given: Value) {
    if let (Some(options), Value::Object(given)) = (options.as_object_mut(), given) {
        for (name, value) in given {
            if value == "@remove" {
                options.remove(&name);
            } else if name == "tls" && value == "@transport" {
                // The scenario's own TLS options replace the default only over TLS; this keeps it.
            } else {
                options.insert(name, value);
            }
        }
    }
}

fn start_refused(host: &mut Host, wanted: &Value, line: &Value) -> Outcome {
    if !matches(wanted, Some(line)) {
        return fail!("expected the start error {wanted}, got {line}");
    }
    match host.process.exit_code(Duration::from_secs(5))? {
        2 => Ok(()),
        code => fail!("expected exit code 2 after {line}, got {code}"),
    }
}

fn write_file(certs: &Certs, dir: &Path, name: &str, content: &str) -> Outcome {
    let bytes = match content.strip_prefix('@') {
        Some(source) => fs::read(certs.dir.join(source))?,
        None => content.as_bytes().to_vec(),
    };
    Ok(fs::write(dir.join(name), bytes)?)
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Outcome {
        if let Some(name) = &step.on {
            self.current.clone_from(name);
        }
        let chunk = step.chunk;
        match &step.verb {
            Verb::Connect(spec) => self.connect(spec),
            Verb::Send(bytes) => self.send(&bytes.to_vec()?, chunk),
            Verb::Request(request) => self.request(request, chunk),
            Verb::Upgrade(request) => self.upgrade(request, chunk),
            Verb::ExpectHttp(wanted) => self.expect_http(wanted),
            Verb::Refused(wanted) => self.refused(wanted),
            Verb::Answered(wanted) => self.answered(wanted),
            Verb::Frame(frame) => self.send(&frame.encode()?, chunk),
            Verb::Frames(frames) => {
                let frames = frames.iter().map(crate::frame::FrameForm::encode).collect::<Outcome<Vec<_>>>()?;
                self.send(&frames.concat(), chunk)
            }
            Verb::Emit(message) => self.emit(message, chunk),
            Verb::Expect(wanted) => self.expect(wanted),
            Verb::Pong(within) => self.pong(within.within_ms),
            Verb::Collect(wanted) => self.collect(wanted),
            Verb::ExpectBytes(bytes) => self.expect_bytes(&bytes.to_vec()?),
            Verb::ExpectClose(wanted) => self.expect_close(wanted),
            Verb::ExpectEof(within) => self.expect_eof(within.within_ms),
            Verb::Ends(within) => self.ends(within.within_ms),
            Verb::ExpectTlsRefused(within) => self.expect_tls_refused(within.within_ms),
            Verb::ExpectNothing(wanted) => self.expect_nothing(wanted.for_ms),
            Verb::Closed(wanted) => self.closed(wanted),
            Verb::Alive(wanted) => self.alive(wanted),
            Verb::Fresh(wanted) => self.fresh(wanted),
            Verb::Bye(within) => self.bye(within.within_ms),
            Verb::Drop(_) => self.drop_current(),
            Verb::Reset(_) => self.reset(),
            Verb::ShutWrite(_) => {
                self.connection()?.shut_write();
                Ok(())
            }
            Verb::Trickle(trickle) => self.trickle(trickle),
            Verb::Flood(flood) => self.flood(flood),
            other => self.host_step(other),
        }
    }

    /// What every case ends with: the host drains and exits as it should, says no violation that no step expected, and
    /// has not panicked.
    fn finish(&mut self) -> Outcome {
        self.connections.clear();
        if !self.exited {
            self.host.process.end_input();
            let code = self.host.process.exit_code(Duration::from_secs(6))?;
            if self.case.exit >= 0 && code != self.case.exit {
                return fail!("expected exit code {}, got {code}", self.case.exit);
            }
        }
        self.no_forbidden_text()?;
        if !self.case.panics && self.host.count_log(|line| line.contains("panicked at"), 1, Duration::ZERO) > 0 {
            return fail!("the host panicked");
        }
        for event in self.host.take_events(&json!({"type": "violation"})) {
            let code = event["code"].as_str().unwrap_or_default();
            if code != "draining" && !self.case.tolerate.iter().any(|tolerated| tolerated == code) {
                return fail!("unexpected {event}");
            }
        }
        match self.host.take_events(&json!({"type": "not json"})).first() {
            Some(event) => fail!("the host wrote a line that is not JSON: {}", event["line"]),
            None => Ok(()),
        }
    }

    fn no_forbidden_text(&self) -> Outcome {
        for text in &self.forbidden {
            let found = |line: &str| match text.strip_prefix('^') {
                Some(start) => line.starts_with(start),
                None => line.contains(text.as_str()),
            };
            if self.host.count_log(found, 1, Duration::ZERO) > 0 {
                return fail!("the log contains {text:?}");
            }
            if self.host.event_contains(text) {
                return fail!("an event contains {text:?}");
            }
        }
        Ok(())
    }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
