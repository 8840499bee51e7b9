//! Idle connections: what one more of them costs in resident memory.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use mio::Poll;

use super::connection::{Connection, Traffic};
use super::echo::once;
use super::opening::{Target, open_all};
use super::payload::Payload;
use crate::plan::Message;
use crate::sample::{Metric, Sample};
use crate::server::Server;

/// Connections that are opened, used and closed first, so that what a server builds once is there before it is weighed.
const FIRST: usize = 16;

pub(super) fn run(server: &Server, tls: bool, count: usize) -> Result<Sample> {
    let target = Target::new(server, tls)?;
    let mut traffic = Traffic::new(Payload::new(Message::Binary(64)), 1);
    drop(open_and_echo(&target, FIRST, &mut traffic)?);
    thread::sleep(Duration::from_millis(200));

    let base_kib = server.settled_kib()?;
    let mut poll = Poll::new()?;
    let transports = open_all(&target, &mut poll, 0, count)?;
    let fresh_kib = server.settled_kib()?;
    let mut connections: Vec<_> = transports.into_iter().map(Connection::new).collect();
    once(&mut poll, 0, &mut connections, &mut traffic)?;
    let used_kib = server.settled_kib()?;

    let each = |kib: u64| kib.saturating_sub(base_kib) as f64 / count as f64;
    Ok(Sample::from([
        (Metric::FreshKib, each(fresh_kib)),
        (Metric::UsedKib, each(used_kib)),
        (Metric::ResidentMib, used_kib as f64 / 1024.0),
    ]))
}

fn open_and_echo(target: &Target, count: usize, traffic: &mut Traffic) -> Result<Vec<Connection>> {
    let mut poll = Poll::new()?;
    let transports = open_all(target, &mut poll, 0, count)?;
    let mut connections: Vec<_> = transports.into_iter().map(Connection::new).collect();
    once(&mut poll, 0, &mut connections, traffic)?;
    Ok(connections)
}
