//! The load generator: one thread, one epoll, and as little work per message as can be, so that the server is what is
//! measured. All loads but `attacked` are closed loops: a client goes on only when what it waits for has come.

mod attacked;
mod attackers;
mod connection;
mod crossing;
mod echo;
mod fan_out;
mod frames;
mod idle;
mod offences;
mod opening;
mod payload;
mod socketio;
mod transport;
mod visits;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::plan::{Load, Window, Workload};
use crate::sample::{Metric, Sample};
use crate::server::Server;

/// Nothing came back for so long: the server hangs, and so would the bench.
const STALL: Duration = Duration::from_secs(10);
/// How often a loop without events looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// One read of the generator.
const SCRATCH_BYTES: usize = 256 << 10;

/// Puts `workload` on `server` once.
pub fn run(server: &mut Server, workload: &Workload, window: Window) -> Result<Sample> {
    match workload.load {
        Load::Echo { message, connections, in_flight } => {
            echo::run(server, workload, message, connections, in_flight, window)
        }
        Load::Idle { connections } => idle::run(server, workload, connections),
        Load::Handshakes { concurrent } => visits::handshakes(server, workload, concurrent, window),
        Load::Offences { offence, concurrent } => offences::run(server, workload, offence, concurrent, window),
        Load::FanOut { members, text_bytes } => fan_out::run(server, workload, members, text_bytes, window),
        Load::Crossing { text_bytes, in_flight } => crossing::run(server, workload, text_bytes, in_flight, window),
        Load::Attacked => attacked::run(server, window),
        Load::Reload { events } => attacked::reload(server, events, window),
    }
}

/// Counts what comes back: nothing in the warm-up, then everything until the window is over.
struct Meter<'a> {
    server: &'a Server,
    window: Window,
    /// When the window is to open.
    due: Instant,
    counts: Option<Counts>,
}

/// What is counted since the window opened, and what the server had used by then.
struct Counts {
    opened_at: Instant,
    cpu_ns: u64,
    app_cpu_ns: u64,
    redis_cpu_ns: Option<u64>,
    latencies_ns: Histogram<u64>,
}

impl<'a> Meter<'a> {
    /// A meter whose warm-up begins now.
    fn new(server: &'a Server, window: Window) -> Self {
        Self { server, window, due: Instant::now() + window.warm_up, counts: None }
    }

    /// Counts `messages` that took `latency` each.
    fn count(&mut self, latency: Duration, messages: u32) {
        if let Some(counts) = &mut self.counts
            && messages > 0
        {
            counts.latencies_ns.saturating_record_n(latency.as_nanos() as u64, u64::from(messages));
        }
    }

    /// Whether the next step opens the window.
    fn is_about_to_open(&self, now: Instant) -> bool {
        self.counts.is_none() && now >= self.due
    }

    /// Opens the window when the warm-up is over; the figures when the window is.
    fn step(&mut self, now: Instant) -> Result<Option<Sample>> {
        if self.is_about_to_open(now) {
            self.counts = Some(Counts::new(self.server)?);
            return Ok(None);
        }
        let Window { length, most, .. } = self.window;
        let is_over = |counts: &mut Counts| now - counts.opened_at >= length || counts.latencies_ns.len() >= most;
        self.counts.take_if(is_over).map(|counts| counts.sample(self.server)).transpose()
    }
}

impl Counts {
    fn new(server: &Server) -> Result<Self> {
        let latencies_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self {
            cpu_ns: server.cpu_ns()?,
            app_cpu_ns: server.app_cpu_ns()?,
            redis_cpu_ns: server.redis_cpu_ns()?,
            opened_at: Instant::now(),
            latencies_ns,
        })
    }

    fn sample(self, server: &Server) -> Result<Sample> {
        let cpu_us = (server.cpu_ns()? - self.cpu_ns) as f64 / 1e3;
        let app_cpu_us = server.app_cpu_ns()?.saturating_sub(self.app_cpu_ns) as f64 / 1e3;
        let redis_cpu_us = server.redis_cpu_ns()?.zip(self.redis_cpu_ns).map(|(now, then)| (now - then) as f64 / 1e3);
        let seconds = self.opened_at.elapsed().as_secs_f64();
        let count = self.latencies_ns.len();
        ensure!(count > 0, "nothing came back in the measured window");
        let quantile_us = |quantile| self.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
        let mut sample = Sample::from([
            (Metric::CpuUs, cpu_us / count as f64),
            (Metric::AppCpuUs, app_cpu_us / count as f64),
            (Metric::PerSecond, count as f64 / seconds),
            (Metric::P50Us, quantile_us(0.5)),
            (Metric::P99Us, quantile_us(0.99)),
            (Metric::P999Us, quantile_us(0.999)),
            (Metric::BusyPercent, cpu_us / seconds / 1e4),
            (Metric::ResidentMib, server.resident_kib()? as f64 / 1024.0),
        ]);
        sample.extend(redis_cpu_us.map(|cpu_us| (Metric::RedisCpuUs, cpu_us / count as f64)));
        Ok(sample)
    }
}
