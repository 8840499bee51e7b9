//! Honest clients at a fixed rate, alone and then beside each attack in turn: what they notice of it.
//!
//! This load is an open loop: a message goes out when it is due, whether or not earlier ones have come back, and its
//! latency counts from when it was due.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Poll};
use serde_json::{Value, json};

use super::STALL;
use super::attackers::Attack;
use super::frames::{CLOSE, FrameReader, TEXT};
use super::opening::{Target, open_all};
use super::payload::Payload;
use super::transport::Transport;
use crate::plan::{BESIDE, Beside, HONEST, HONEST_PER_SECOND, Message, Window};
use crate::sample::{Metric, Sample};
use crate::server::Server;

/// How long an attack goes on before the window opens.
const RUN_UP: Duration = Duration::from_millis(250);
/// Windows are so many times as long as others: a percentile needs more messages than a mean.
const LONGER: u32 = 3;
/// How often the answer to a reload is looked for.
const STEP: Duration = Duration::from_millis(50);
/// For the server to clear up after an attack.
const REST: Duration = Duration::from_millis(150);

/// An honest client.
struct Client {
    transport: Transport,
    reader: FrameReader,
    /// When each message that is on its way was due.
    due: VecDeque<Instant>,
    is_lost: bool,
}

struct Clients {
    poll: Poll,
    events: Events,
    all: Vec<Client>,
    message: Vec<u8>,
    payload: Payload,
    latencies_ns: Histogram<u64>,
}

pub(super) fn run(server: &Server, window: Window) -> Result<Sample> {
    let target = Target::new(server, false)?;
    let mut clients = Clients::open(&target)?;
    clients.during(&mut Attack::new(&target, Beside::Nothing)?, window.warm_up)?;
    let mut sample = Sample::new();
    for &beside in BESIDE {
        let mut attack = Attack::new(&target, beside)?;
        clients.during(&mut attack, RUN_UP)?;
        clients.latencies_ns.reset();
        let (acts, lost, cpu, app, started) =
            (attack.acts, clients.lost(), server.cpu_ns()?, server.app_cpu_ns()?, Instant::now());
        clients.during(&mut attack, window.length * LONGER)?;
        let seconds = started.elapsed().as_secs_f64();
        let percent = |ns: u64| ns as f64 / seconds / 1e7;
        let quantile_us = |quantile| clients.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
        ensure!(!clients.latencies_ns.is_empty(), "no honest message came back beside {}", beside.describe());
        sample.extend([
            (Metric::HonestP50Us(beside), quantile_us(0.5)),
            (Metric::HonestP99Us(beside), quantile_us(0.99)),
            (Metric::HonestLost(beside), (clients.lost() - lost) as f64),
            (Metric::ServerPercent(beside), percent(server.cpu_ns()? - cpu)),
            (Metric::AppPercent(beside), percent(server.app_cpu_ns()? - app)),
            (Metric::ActsPerSecond(beside), (attack.acts - acts) as f64 / seconds),
        ]);
        drop(attack);
        thread::sleep(REST);
        clients.collect()?;
    }
    sample.insert(Metric::HonestLostInAll, clients.lost() as f64);
    let app = |beside| sample.get(&Metric::AppPercent(beside)).copied().unwrap_or_default();
    let most = BESIDE.iter().map(|&beside| app(beside)).fold(0.0, f64::max);
    sample.insert(Metric::AppPercentAdded, most - app(Beside::Nothing));
    Ok(sample)
}

/// What honest clients notice of a reload, and how long the server takes to tell its numbers.
pub(super) fn reload(server: &mut Server, events: usize, window: Window) -> Result<Sample> {
    let target = Target::new(server, false)?;
    let mut clients = Clients::open(&target)?;
    let mut nothing = Attack::new(&target, Beside::Nothing)?;
    clients.during(&mut nothing, window.warm_up)?;
    clients.latencies_ns.reset();
    let mut options = server.options().clone();
    for number in 0..events {
        options["events"][format!("event-{number}")] = schema(number);
    }
    let asked_at = Instant::now();
    server.tell(&json!({"do": "reload", "options": options}))?;
    let answer = loop {
        clients.during(&mut nothing, STEP)?;
        if let Some(answer) = server.answer(Duration::ZERO) {
            break answer;
        }
        ensure!(asked_at.elapsed() < STALL, "no answer to a reload within {STALL:?}");
    };
    let reloaded_ms = asked_at.elapsed().as_secs_f64() * 1e3;
    ensure!(answer["ok"] == true, "a reload was refused: {answer}");
    // The shards take it over after the answer.
    clients.during(&mut nothing, window.length)?;
    ensure!(clients.lost() == 0, "{} honest connections were lost by a reload", clients.lost());
    let latest_ms = clients.latencies_ns.max() as f64 / 1e6;
    let asked_at = Instant::now();
    server.tell(&json!({"do": "metrics"}))?;
    let answer = server.answer(STALL).context("no answer to metrics")?;
    let metrics_ms = asked_at.elapsed().as_secs_f64() * 1e3;
    let text = answer["text"].as_str().unwrap_or_default();
    ensure!(text.ends_with("# EOF\n"), "this is no text of metrics: {answer}");
    Ok(Sample::from([(Metric::LatestMs, latest_ms), (Metric::ReloadMs, reloaded_ms), (Metric::MetricsMs, metrics_ms)]))
}

/// What a message of an application may look like.
fn schema(number: usize) -> Value {
    json!({"schema": {
        "type": "object", "required": ["id", "text"], "additionalProperties": false,
        "properties": {
            "id": {"type": "integer", "minimum": number},
            "text": {"type": "string", "maxLength": 1000, "pattern": "^[^<>]*$"},
            "to": {"type": "array", "maxItems": 10, "items": {"type": "string", "minLength": 1, "maxLength": 64}},
        },
    }})
}

impl Clients {
    fn open(target: &Target) -> Result<Self> {
        let mut poll = Poll::new()?;
        let client =
            |transport| Client { transport, reader: FrameReader::keeping(), due: VecDeque::new(), is_lost: false };
        let all = open_all(target, &mut poll, HONEST)?.into_iter().map(client).collect();
        let payload = Payload::new(Message::Json(90), false)?;
        let latencies_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let message = payload.batch(1);
        Ok(Self { poll, events: Events::with_capacity(1024), all, message, payload, latencies_ns })
    }

    /// Sends and receives for so long, beside `attack`.
    fn during(&mut self, attack: &mut Attack, length: Duration) -> Result<()> {
        let pause = Duration::from_secs(1) / HONEST_PER_SECOND;
        let started = Instant::now();
        let mut number = 0;
        loop {
            let now = Instant::now();
            if now - started >= length {
                return self.collect();
            }
            let due = started + pause * number;
            if now >= due {
                let client = number as usize % self.all.len();
                self.all[client].send(&self.message, due);
                number += 1;
            }
            self.receive()?;
            attack.step(now)?;
        }
    }

    /// Takes what has come.
    fn receive(&mut self) -> Result<()> {
        self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
        for event in &self.events {
            let client = &mut self.all[event.token().0];
            client.receive(&self.payload, &mut self.latencies_ns)?;
        }
        Ok(())
    }

    /// Waits for what is still on its way, for a second at most; who still waits then is lost.
    fn collect(&mut self) -> Result<()> {
        let started = Instant::now();
        let is_waiting = |client: &Client| !client.is_lost && !client.due.is_empty();
        while self.all.iter().any(is_waiting) && started.elapsed() < Duration::from_secs(1) {
            self.receive()?;
        }
        self.all.iter_mut().filter(|client| is_waiting(client)).for_each(|client| client.is_lost = true);
        Ok(())
    }

    fn lost(&self) -> usize {
        self.all.iter().filter(|client| client.is_lost).count()
    }
}

impl Client {
    fn send(&mut self, message: &[u8], due: Instant) {
        if self.is_lost {
            return;
        }
        match self.transport.write(message) {
            Ok(written) if written == message.len() => self.due.push_back(due),
            _ => self.is_lost = true,
        }
    }

    fn receive(&mut self, payload: &Payload, latencies_ns: &mut Histogram<u64>) -> Result<()> {
        let mut piece = [0; 4096];
        while !self.is_lost {
            let read = match self.transport.read(&mut piece) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                _ => {
                    self.is_lost = true;
                    return Ok(());
                }
            };
            let mut input = &piece[..read];
            while let Some(frame) = self.reader.next(&mut input)? {
                if frame.opcode != TEXT {
                    // A server's ping needs no answer here: it hears from this client all the time. A close loses it.
                    self.is_lost |= frame.opcode == CLOSE;
                    continue;
                }
                payload.check(TEXT, &self.reader.kept)?;
                if let Some(due) = self.due.pop_front() {
                    latencies_ns.saturating_record(due.elapsed().as_nanos() as u64);
                }
            }
        }
        Ok(())
    }
}
