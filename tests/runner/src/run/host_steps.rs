//! The steps that speak to the host process: events, log, commands, time and memory.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::outcome::{Outcome, fail};
use wsguard_test_support::process::Signal;

use super::{Run, lay_over, ms, write_file};
use crate::host::PLACE;
use crate::matcher::{literal, to_json};
use crate::step::{Control, CountEvents, Elapsed, Log, Memory, Verb};

const PATIENCE: Duration = Duration::from_secs(5);

impl Run<'_> {
    pub(super) fn host_step(&mut self, verb: &Verb) -> Outcome {
        match verb {
            Verb::Event(wanted) => self.host.take_event(&self.named(wanted), PATIENCE).map(|_| ()),
            Verb::Events(wanted) => self.events_in_order(wanted),
            Verb::CountEvents(wanted) => self.count_events(wanted),
            Verb::NoEvent(wanted) => match self.host.take_events(&self.named(wanted)).first() {
                Some(event) => fail!("unexpected {event}"),
                None => Ok(()),
            },
            Verb::Log(wanted) => self.log(wanted),
            Verb::NoLog(text) => {
                self.forbidden.push(text.clone());
                self.no_forbidden_text()
            }
            Verb::Control(control) => self.control(control),
            Verb::Signal(name) if name == "TERM" => self.host.process.group.signal(Signal::SIGTERM),
            Verb::EndInput(_) => {
                self.host.process.end_input();
                Ok(())
            }
            Verb::Exit(wanted) => {
                let code = self.host.process.exit_code(ms(wanted.within_ms))?;
                self.exited = true;
                if code == wanted.code { Ok(()) } else { fail!("expected exit code {}, got {code}", wanted.code) }
            }
            Verb::Mark(name) => {
                self.marks.insert(name.clone(), Instant::now());
                Ok(())
            }
            Verb::Elapsed(wanted) => self.elapsed(wanted),
            Verb::WaitMs(wait_ms) => {
                std::thread::sleep(ms(*wait_ms));
                Ok(())
            }
            Verb::Memory(wanted) => self.memory(wanted),
            Verb::WriteFile(file) => write_file(self.place.certs, &self.dir, &file.name, &file.content),
            other => fail!("not a step: {other:?}"),
        }
    }

    /// A pattern in which `"conn:NAME"` stands for the host's id of a connection.
    fn named(&self, wanted: &toml::Value) -> Value {
        let mut wanted = to_json(wanted);
        if let Some(id) = self.id_of(&wanted["conn"]) {
            wanted["conn"] = id;
        }
        wanted
    }

    /// The host's id of the connection that `"conn:NAME"` stands for.
    fn id_of(&self, conn: &Value) -> Option<Value> {
        let name = conn.as_str()?.strip_prefix("conn:")?;
        Some(self.connections.get(name).and_then(|found| found.id.clone()).unwrap_or(Value::Null))
    }

    fn events_in_order(&mut self, wanted: &[toml::Value]) -> Outcome {
        let mut last = 0;
        for wanted in wanted {
            let event = self.host.take_event(&self.named(wanted), PATIENCE)?;
            let place = event[PLACE].as_u64().unwrap_or(0);
            if place < last {
                return fail!("out of order: {event}");
            }
            last = place;
        }
        Ok(())
    }

    fn count_events(&mut self, wanted: &CountEvents) -> Outcome {
        let pattern = self.named(&wanted.wanted);
        let count = self.host.count_events(&pattern, wanted.min, ms(wanted.within_ms));
        if wanted.take {
            self.host.take_events(&pattern);
        }
        if (wanted.min..=wanted.max).contains(&count) {
            return Ok(());
        }
        fail!("expected {} to {} events {pattern}, came {count}", wanted.min, wanted.max)
    }

    fn log(&mut self, wanted: &Log) -> Outcome {
        let found = |line: &str| wanted.contains.iter().all(|part| line.contains(part.as_str()));
        let count = self.host.count_log(found, wanted.min, ms(wanted.within_ms));
        if count >= wanted.min && wanted.max.is_none_or(|max| count <= max) {
            return Ok(());
        }
        fail!("expected {} to {:?} log lines with {:?}, found {count}", wanted.min, wanted.max, wanted.contains)
    }

    fn control(&mut self, control: &Control) -> Outcome {
        let mut command = literal(&toml::Value::Table(control.send.clone()));
        if command["do"] == "reload" {
            let mut options = self.options.clone();
            lay_over(&mut options, command["options"].take());
            command["options"] = options;
        }
        if let Some(id) = self.id_of(&command["conn"]) {
            command["conn"] = id;
        }
        self.host.process.tell(&command)?;
        if control.detached {
            return Ok(());
        }
        let mut answer = match control.expect.clone() {
            Some(expect) => to_json(&toml::Value::Table(expect)),
            None => json!({}),
        };
        let kind = match command["do"].as_str() {
            Some(kind @ ("stats" | "metrics")) => json!({"type": kind}),
            _ => json!({"type": "done", "do": command["do"]}),
        };
        if kind["type"] == "done" && answer["ok"].is_null() {
            answer["ok"] = json!(true);
        }
        if let (Value::Object(answer), Value::Object(kind)) = (&mut answer, kind) {
            answer.extend(kind);
        }
        self.host.take_event(&answer, ms(control.within_ms)).map(|_| ())
    }

    fn elapsed(&self, wanted: &Elapsed) -> Outcome {
        let Some(mark) = self.marks.get(&wanted.since) else { return fail!("no mark {:?}", wanted.since) };
        let elapsed_ms = mark.elapsed().as_millis() as u64;
        let early = wanted.at_least_ms.is_some_and(|least| elapsed_ms < least);
        let late = wanted.at_most_ms.is_some_and(|most| elapsed_ms > most);
        if !early && !late {
            return Ok(());
        }
        fail!("{elapsed_ms} ms passed, expected {:?} to {:?}", wanted.at_least_ms, wanted.at_most_ms)
    }

    fn memory(&mut self, wanted: &Memory) -> Outcome {
        let kib = self.host.process.group.resident_kib();
        if let Some(name) = &wanted.mark {
            self.memory.insert(name.clone(), kib);
        }
        if let Some(limit) = wanted.below_mib.filter(|limit| kib > limit * 1024) {
            return fail!("the host holds {kib} KiB, expected below {limit} MiB");
        }
        let before = wanted.since.as_ref().and_then(|name| self.memory.get(name)).copied().unwrap_or(0);
        match wanted.growth_below_mib.filter(|limit| kib.saturating_sub(before) > limit * 1024) {
            Some(limit) => fail!("the host grew from {before} to {kib} KiB, expected less than {limit} MiB more"),
            None => Ok(()),
        }
    }
}
