//! Messages from one node of a cluster to a member on the other: a fixed number under way, and the next as one arrives.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Poll};
use serde_json::{Value, json};

use super::frames::{CLOSE, FrameReader, TEXT, push};
use super::opening::{Target, open_all, wait};
use super::payload::records;
use super::transport::Transport;
use super::{Meter, SCRATCH_BYTES, STALL};
use crate::plan::{Window, Workload};
use crate::sample::Sample;
use crate::server::Server;

const ROOM: &str = "bench";
/// The nodes have found one another when so long nothing more comes.
const QUIET: Duration = Duration::from_millis(300);

/// An event as the servers of a workload take it.
fn event(server: &Server, name: &str, data: &Value) -> Vec<u8> {
    let text = if server.speaks_socket_io() {
        format!("42{}", json!([name, data]))
    } else {
        json!({"event": name, "data": data}).to_string()
    };
    let mut frame = Vec::new();
    push(&mut frame, TEXT, text.as_bytes());
    frame
}

/// The member on the other node.
struct Member {
    transport: Transport,
    reader: FrameReader,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
}

impl Member {
    /// Waits for a moment; how many messages have come. Each of them must have `part` in it while it is looked at.
    fn hear(&mut self, part: &str) -> Result<usize> {
        wait(&mut self.poll, &mut self.events)?;
        if self.events.is_empty() {
            return Ok(0);
        }
        let mut messages = 0;
        loop {
            let read = match self.transport.read(&mut self.scratch) {
                Ok(0) => bail!("the server closed the connection without a close frame"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error.into()),
            };
            let mut input = &self.scratch[..read];
            while let Some(frame) = self.reader.next(&mut input)? {
                ensure!(frame.opcode != CLOSE, "the server closed with {}", self.reader.close_in_words());
                ensure!(frame.opcode == TEXT, "the server sent opcode {}", frame.opcode);
                if self.reader.keep {
                    let message = String::from_utf8_lossy(self.reader.message()?).into_owned();
                    ensure!(message.contains(part), "not what was awaited: {message}");
                    self.reader.forget();
                }
                messages += 1;
            }
        }
    }
}

pub(super) fn run(
    server: &Server,
    workload: &Workload,
    text_bytes: usize,
    in_flight: usize,
    window: Window,
) -> Result<Sample> {
    let other = server.other().context("there is no other node")?;
    let mut sender_poll = Poll::new()?;
    let opened = open_all(&Target::of(server, workload)?, &mut sender_poll, 1)?;
    let mut sender = opened.into_iter().next().context("no sender")?;
    let mut member = join(other, workload)?;
    let text = String::from_utf8_lossy(&records(text_bytes)).into_owned();
    let message = event(server, "say", &json!({"room": ROOM, "text": text}));
    let mut send = |count: usize| -> Result<()> {
        let batch = message.repeat(count);
        ensure!(sender.write(&batch)? == batch.len(), "a message was cut short");
        Ok(())
    };
    meet(&mut member, &mut send)?;
    member.reader.keep = false;

    let mut meter = Meter::new(server, window);
    let mut under_way = VecDeque::from(vec![Instant::now(); in_flight]);
    send(in_flight)?;
    let mut last = Instant::now();
    loop {
        let heard = member.hear("said")?;
        let now = Instant::now();
        for _ in 0..heard {
            let sent_at = under_way.pop_front().context("a message came twice")?;
            meter.count(now - sent_at, 1);
        }
        if heard > 0 {
            last = now;
            send(heard)?;
            under_way.extend(std::iter::repeat_n(Instant::now(), heard));
        }
        ensure!(last.elapsed() < STALL, "no message for {STALL:?}, {} are under way", under_way.len());
        if let Some(sample) = meter.step(Instant::now())? {
            return Ok(sample);
        }
    }
}

/// A member of the room on this node.
fn join(server: &Server, workload: &Workload) -> Result<Member> {
    let mut poll = Poll::new()?;
    let opened = open_all(&Target::of(server, workload)?, &mut poll, 1)?;
    let transport = opened.into_iter().next().context("no member")?;
    let (reader, events) = (FrameReader::keeping(), Events::with_capacity(16));
    let mut member = Member { transport, reader, poll, events, scratch: vec![0; SCRATCH_BYTES] };
    let joining = event(server, "join", &json!({"room": ROOM}));
    ensure!(member.transport.write(&joining)? == joining.len(), "a message was cut short");
    let began = Instant::now();
    while member.hear("joined")? == 0 {
        ensure!(began.elapsed() < STALL, "a join is not answered");
    }
    Ok(member)
}

/// Until a message crosses, and until all that were sent for that have.
fn meet(member: &mut Member, send: &mut impl FnMut(usize) -> Result<()>) -> Result<()> {
    let began = Instant::now();
    let mut last = None;
    while last.is_none_or(|heard: Instant| heard.elapsed() < QUIET) {
        ensure!(began.elapsed() < STALL, "the nodes do not find one another");
        if last.is_none() {
            send(1)?;
        }
        if member.hear("said")? > 0 {
            last = Some(Instant::now());
        }
    }
    Ok(())
}
