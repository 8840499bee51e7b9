//! Idle connections: what one more of them costs in resident memory.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mio::{Events, Poll};

use super::STALL;
use super::connection::{Connection, Traffic};
use super::opening::{Target, open_all, wait};
use super::payload::Payload;
use super::transport::Transport;
use crate::plan::{Message, Workload};
use crate::sample::{Metric, Sample};
use crate::server::Server;

/// Connections that are opened and used first, and stay: what a server builds once, such as the queue of its log, is there before
/// it is weighed, and no memory of theirs is free for those that are weighed.
const FIRST: usize = 1000;

pub(super) fn run(server: &Server, workload: &Workload, count: usize) -> Result<Sample> {
    let target = Target::of(server, workload)?;
    let mut poll = Poll::new()?;
    let first = open_all(&target, &mut poll, FIRST)?;
    let _kept = echo_once(first, workload, &mut poll)?;
    thread::sleep(Duration::from_millis(200));

    let base_kib = server.settled_kib()?;
    let mut poll = Poll::new()?;
    let fresh = open_all(&target, &mut poll, count)?;
    let fresh_kib = server.settled_kib()?;
    let _used = echo_once(fresh, workload, &mut poll)?;
    let used_kib = server.settled_kib()?;

    let each = |kib: u64| kib.saturating_sub(base_kib) as f64 / count as f64;
    Ok(Sample::from([
        (Metric::FreshKib, each(fresh_kib)),
        (Metric::UsedKib, each(used_kib)),
        (Metric::ResidentMib, used_kib as f64 / 1024.0),
    ]))
}

/// One echo on each connection: of 64 B, or of 2 KiB that are worth compressing.
fn echo_once(transports: Vec<Transport>, workload: &Workload, poll: &mut Poll) -> Result<Vec<Connection>> {
    let message = if workload.compressed { Message::Records(2048) } else { Message::Binary(64) };
    let mut traffic = Traffic::new(Payload::new(message, workload.compressed)?, 1);
    let mut connections: Vec<_> = transports.into_iter().map(Connection::new).collect();
    for connection in &mut connections {
        connection.send(&traffic)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut missing = connections.len();
    let mut last_echo = Instant::now();
    while missing > 0 {
        wait(poll, &mut events)?;
        for event in &events {
            let connection = &mut connections[event.token().0];
            if !connection.is_proven() && connection.advance(&mut traffic, |_, _| {})? {
                (missing, last_echo) = (missing - 1, Instant::now());
            }
        }
        ensure!(last_echo.elapsed() < STALL, "no echo for {STALL:?}, {missing} are missing");
    }
    Ok(connections)
}
