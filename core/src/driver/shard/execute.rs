//! Carrying out the application's commands: appended to outboxes in order, then one write per touched connection.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::Context;

use super::turn::ActiveSession;
use super::{SCRATCH_BYTES, Shard, with_shard};
use crate::driver::accepted::Accepted;
use crate::driver::commands::{Command, CommandBuffer, Recipients};
use crate::driver::ids::{ConnectionId, generations_so_far};
use crate::driver::session::Session;
use crate::driver::shared_frame::SharedFrame;
use crate::driver::stats::add;
use wsguard_proto::codec;
use wsguard_proto::config::Protocol;
use wsguard_proto::connection::{Behind, Connection, Fragment, Phase, Reply, Report};
use wsguard_proto::revocation::is_older;
use wsguard_proto::rooms::Block;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// A connection's outbox is written before the end of the turn when commands put more than this into it.
const EARLY_WRITE_BYTES: usize = 256 * 1024;
/// Frames of this many bytes are written from where they lie: a copy costs more than the call it might save.
const LARGE_BYTES: usize = 8 * 1024;
/// How long a draining connection waits between looks at whether the application is done with its messages.
const DRAIN_RETRY_MS: u64 = 10;

/// Whole frames that the application has for one connection.
#[derive(Clone, Copy)]
struct Said<'f> {
    frames: &'f [u8],
    /// How many messages end in them.
    messages: u32,
    /// They may not come between the fragments of a message.
    waits: bool,
    form: Form,
}

/// Whether frames are compressed where the connection has agreed to that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// They are.
    AsAgreed,
    /// They go as they are. So much shorter they are than what was said, by an earlier compression.
    AsTheyAre { saved_bytes: usize },
}

const PLAIN: Form = Form::AsTheyAre { saved_bytes: 0 };

/// What carrying out commands leaves to the task that asked for it.
#[derive(Debug, Default)]
pub(in crate::driver) struct CommandsRun {
    /// Connections whose opening handshakes begin now.
    pub(in crate::driver) accepted: Vec<Accepted>,
    /// The shard's work is over.
    pub(in crate::driver) stopped: bool,
}

/// Carries out everything that has arrived.
pub(in crate::driver) fn run_commands() -> CommandsRun {
    with_shard(|shard| {
        shard.run_commands();
        CommandsRun { accepted: core::mem::take(&mut shard.accepted), stopped: shard.stopped }
    })
}

impl Shard {
    fn run_commands(&mut self) {
        let mut buffer = core::mem::take(&mut self.commands);
        buffer.clear();
        self.mailbox().take_commands(&mut buffer);
        let now = self.state.clock.now();
        self.deflate.refill();
        // Both lists are put back, so that their memory is there the next time.
        let mut commands = core::mem::take(&mut buffer.commands);
        for command in commands.drain(..) {
            let posted = command.posted();
            self.shielded(|shard| shard.execute(command, &buffer, now));
            if let Some((conn, bytes)) = posted {
                self.arrive(conn, bytes);
            }
        }
        buffer.commands = commands;
        self.commands = buffer;
        let mut touched = core::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.shielded(|shard| shard.write_touched(slot, now));
        }
        self.touched = touched;
    }

    /// As [`run_commands`], for tasks that do other things: the one that runs commands learns what is its to do.
    pub(super) fn run_commands_elsewhere(&mut self) {
        self.run_commands();
        if self.stopped || !self.accepted.is_empty() {
            self.mailbox().commands_arrived.notify_one();
        }
    }

    /// Carries out what the application said to every batch that it has let go by now: it said that before, and goes on
    /// speaking for as long as it likes.
    pub(super) fn carry_out_answers(&mut self) {
        let released = self.mailbox().last_released();
        self.run_commands_elsewhere();
        self.answered = released;
    }

    fn write_touched(&mut self, slot: u32, now: Moment) {
        let Some(mut session) = self.take_any(slot as usize) else { return };
        session.touched = false;
        let waker = session.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        self.write(&mut session, now, cx);
        self.publish_unsent(&session);
        self.end_turn(session, now, cx);
    }

    fn execute(&mut self, command: Command, buffer: &CommandBuffer, now: Moment) {
        match command {
            Command::Frames { conn, frames, count, plain } => {
                let form = if plain { PLAIN } else { Form::AsAgreed };
                self.send(conn, Said { frames: buffer.bytes(frames), messages: count, waits: true, form }, now);
            }
            Command::Broadcast { to, protocol, frame, except, waits } => {
                drop(waits);
                let except = buffer.ids(except);
                self.each_of(to, buffer, |shard, slot| shard.broadcast_to(slot, protocol, &frame, except, now));
            }
            Command::CloseAll { whom, code, reason, except } => {
                let (reason, except) = (buffer.text(reason), buffer.ids(except));
                self.each_of(whom, buffer, |shard, slot| shard.close_slot(slot, code, reason, except, now));
            }
            Command::Close { conn, code, reason } => {
                self.act_on(conn, now, |conn, turn| conn.close(code, buffer.text(reason), turn));
            }
            Command::Fragment { conn, frame, fragment } => self.send_fragment(conn, buffer.bytes(frame), fragment, now),
            Command::Control { conn, frame, is_ping } => self.send_control(conn, buffer.bytes(frame), is_ping, now),
            Command::AutoPong { conn, answers } => self.act_on(conn, now, |conn, _| conn.set_auto_pong(answers)),
            Command::Ping { conn, payload } => self.ping(conn, payload, now),
            Command::Terminate { conn } => self.terminate(conn, now),
            Command::HangUp { conn } => self.act_on(conn, now, Connection::hang_up),
            Command::HandlerFailed { conn } => {
                let report = Report { code: Code::Internal, event: None, detail: "the application's handler failed" };
                self.act_on(conn, now, |conn, turn| conn.violate(&report, turn));
            }
            Command::DataRefused { conn, event, id, may_reply } => {
                let reply = if may_reply { Reply::To(id.map(|id| buffer.text(id))) } else { Reply::Never };
                let event = Some(buffer.text(event));
                let detail = "the application's own validation refused the data";
                let report = Report { code: Code::SchemaMismatch, event, detail };
                self.act_on(conn, now, |conn, turn| conn.refuse_for_the_application(&report, reply, turn));
            }
            Command::Pause { conn, paused } => self.pause(conn, paused, now),
            Command::DisconnectUser { user, number } => {
                let user = buffer.text(user);
                self.disconnect("disconnect_user was called", |own| own == user, number, now);
            }
            Command::DisconnectAll { number } => {
                let detail = "disconnect_user may have been called on another node: the log of the cluster does not reach back so far";
                self.disconnect(detail, |_| true, number, now);
            }
            Command::Reload(set) => self.reload(set, now),
            Command::GoOnReloading => self.go_on_reloading(now),
            Command::CloseBanned(ban) => self.close_banned(ban, now),
            Command::GoOnBanning => self.go_on_banning(now),
            Command::Adopt(accepted) => self.accepted.push(*accepted),
            Command::Resume => {
                self.read_the_starved();
                self.stop_when_drained();
            }
            Command::Drain { until, jitter_ms } => self.drain(until, jitter_ms, now),
            Command::Stop => self.stop(now),
            #[cfg(test)]
            Command::Fault { conn } => {
                let _held = self.take(conn.slot(), conn.generation());
                std::panic::panic_any("a fault of ours");
            }
            #[cfg(test)]
            Command::Mutter { conn } => {
                if let Some(mut session) = self.take(conn.slot(), conn.generation()) {
                    session.out.extend_from_slice(b"\x81\x04mine");
                    self.put_back(session);
                }
            }
        }
    }

    /// Lets `act` work on a connection, behind the frames that were sent to it before.
    pub(super) fn act_on(
        &mut self,
        id: ConnectionId,
        now: Moment,
        act: impl FnOnce(&mut Connection, &mut wsguard_proto::connection::Turn<'_>),
    ) {
        if let Some(mut session) = self.take(id.slot(), id.generation()) {
            self.turn(&mut session, now, act);
            self.end_turn_elsewhere(session, now);
        }
    }

    /// Drops a connection. What was said to it before, its 101 included, is offered to the socket once: a peer that reads has it.
    fn terminate(&mut self, conn: ConnectionId, now: Moment) {
        let Some(mut session) = self.take(conn.slot(), conn.generation()) else { return };
        self.write_at_last(&mut session, now);
        self.turn(&mut session, now, Connection::handle_eof);
        self.end_turn_elsewhere(session, now);
    }

    /// Writes what waits for a connection that is about to be dropped, as far as its socket takes it.
    fn write_at_last(&mut self, session: &mut ActiveSession, now: Moment) {
        self.write_elsewhere(session, now);
        let written = session.session.write_unasked(&mut self.pool);
        add(&self.mailbox().stats.bytes_out, session.tally.wrote(written));
    }

    fn ping(&mut self, conn: ConnectionId, payload: [u8; 8], now: Moment) {
        let Some(mut session) = self.take(conn.slot(), conn.generation()) else {
            // It was counted when the application asked for it.
            let slot = self.mailbox().slots.get(conn.slot());
            return slot.map_or((), |slot| slot.give_back_pings(1));
        };
        session.slot.ping_began();
        if !self.turn(&mut session, now, |conn, turn| conn.ping(payload, turn)) {
            session.slot.pings_ended(1);
        }
        self.end_turn_elsewhere(session, now);
    }

    /// Adds a ping or a pong of the application to a connection's outbox: it is no message.
    fn send_control(&mut self, conn: ConnectionId, frame: &[u8], is_ping: bool, now: Moment) {
        if is_ping && let Some(session) = self.open_session(conn) {
            session.conn.expect_pong(&frame[codec::frame_overhead(0)..]);
        }
        self.send(conn, Said { frames: frame, messages: 0, waits: false, form: PLAIN }, now);
    }

    /// Adds a fragment, and behind the last of a message what waited for it. One that the peer could make nothing of fails the
    /// connection: threads of the application that do not know of each other have sent it.
    fn send_fragment(&mut self, conn: ConnectionId, frame: &[u8], fragment: Fragment, now: Moment) {
        let mut behind = Behind::default();
        if let Some(session) = self.open_session(conn) {
            if session.conn.may_send() && !Self::takes_frames(session) {
                // On its way out, and slow: a message with a hole in it would be another message.
                return self.act_on(conn, now, Connection::handle_eof);
            }
            let protocol = session.policy.protocol;
            if let Err(detail) = session.conn.send_fragment(fragment, protocol) {
                let report = Report { code: Code::Internal, event: None, detail };
                return self.act_on(conn, now, |conn, turn| conn.violate(&report, turn));
            }
            if fragment.fin {
                behind = session.conn.end_fragments();
            }
        }
        self.send(conn, Said { frames: frame, messages: u32::from(fragment.fin), waits: false, form: PLAIN }, now);
        let Behind { frames, saved_bytes } = behind;
        if !frames.is_empty() {
            let form = Form::AsTheyAre { saved_bytes };
            self.send(conn, Said { frames: &frames, messages: 0, waits: false, form }, now);
        }
    }

    fn open_session(&mut self, conn: ConnectionId) -> Option<&mut Session> {
        let session = self.sessions.get_mut(conn.slot() as usize)?.as_deref_mut()?;
        (session.id == conn).then_some(session)
    }

    /// Posted bytes have arrived, whatever became of them: written, in an outbox, dropped, or lost by a fault of ours. That is
    /// published at the end of the run, for the connection that has the slot now: it may watch for them, even if they were for the
    /// one before it.
    fn arrive(&mut self, conn: ConnectionId, bytes: usize) {
        let number = conn.slot();
        let Some(slot) = self.state.shards[self.index].slots.get(number) else { return };
        slot.arrive(bytes);
        if let Some(Some(session)) = self.sessions.get_mut(number as usize)
            && !core::mem::replace(&mut session.touched, true)
        {
            self.touched.push(number);
        }
    }

    /// Adds frames to a connection's outbox, to be written at the end of the turn; large ones are written at once.
    fn send(&mut self, conn: ConnectionId, said: Said<'_>, now: Moment) {
        let Some(mut session) = self.take_any(conn.slot() as usize) else { return };
        if session.id == conn && Self::takes_frames(&session) {
            add(&self.mailbox().stats.messages_out, said.messages.into());
            session.tally.messages_out += u64::from(said.messages);
            let mut compressed = core::mem::take(&mut self.compressed);
            match self.compress(&session, said, &mut compressed) {
                0 => self.say(&mut session, said, now),
                saved_bytes => {
                    let form = Form::AsTheyAre { saved_bytes };
                    self.say(&mut session, Said { frames: &compressed, form, ..said }, now);
                }
            }
            compressed.clear();
            compressed.shrink_to(SCRATCH_BYTES);
            self.compressed = compressed;
        }
        self.put_back_bounded(session, now);
    }

    /// Compresses into `out` what may be and gains by it; returns how many bytes that saves.
    fn compress(&mut self, session: &Session, said: Said<'_>, out: &mut Vec<u8>) -> usize {
        let Some(agreed) = session.conn.deflate() else { return 0 };
        let Some(rules) = &session.policy.compression else { return 0 };
        if said.form != Form::AsAgreed || said.frames.len() < rules.threshold_bytes {
            return 0;
        }
        let pressed = self.deflate.push_frames(agreed, rules, said.frames, out);
        self.mailbox().stats.count_pressed(pressed);
        pressed.saved_bytes
    }

    /// Adds frames to the outbox of a connection that takes them.
    fn say(&mut self, session: &mut ActiveSession, said: Said<'_>, now: Moment) {
        let Said { frames, waits, form, .. } = said;
        let saved_bytes = if let Form::AsTheyAre { saved_bytes } = form { saved_bytes } else { 0 };
        if waits && session.conn.is_mid_fragments() {
            session.conn.wait_behind(frames, saved_bytes);
        } else {
            if session.outbox.is_none() && frames.len() >= LARGE_BYTES {
                self.write_through(session, frames, now);
            } else {
                session.outbox.get_or_insert_with(|| self.pool.take_outbox()).push(frames, &mut self.pool);
            }
            if let Some(outbox) = &mut session.outbox {
                outbox.add_saved(saved_bytes);
            }
        }
        self.touch(session, now);
        if frames.len() >= LARGE_BYTES && session.unsent_bytes() > 0 {
            self.publish_unsent(session);
        }
    }

    /// Writes frames that nothing waits before.
    fn write_through(&mut self, session: &mut ActiveSession, frames: &[u8], now: Moment) {
        let waker = session.waker.clone();
        match session.write_bytes(&mut Context::from_waker(&waker), frames, &mut self.pool) {
            Ok(written) => {
                add(&self.mailbox().stats.bytes_out, session.tally.wrote(written));
            }
            Err(_) => {
                session.outbox = None;
                self.turn(session, now, Connection::handle_eof);
            }
        }
    }

    /// Lets `act` work on each of these connections that is still there.
    fn each_of(&mut self, whom: Recipients, buffer: &CommandBuffer, mut act: impl FnMut(&mut Self, u32)) {
        let Recipients { blocks, before } = whom;
        let (now, slots) = (generations_so_far(), self.sessions.len() as u32);
        let act_on_slot = |slot: u32| {
            // A newcomer may have the slot of one that has left.
            let session = self.sessions.get(slot as usize).and_then(Option::as_ref);
            if session.is_some_and(|session| !session.id.opened_between(before, now)) {
                self.shielded(|shard| act(shard, slot));
            }
        };
        match blocks {
            None => (0..slots).for_each(act_on_slot),
            Some(blocks) => buffer.blocks(blocks).flat_map(Block::members).for_each(act_on_slot),
        }
    }

    fn close_slot(&mut self, slot: u32, code: u16, reason: &str, except: &[[u8; 8]], now: Moment) {
        let Some(id) = self.sessions[slot as usize].as_ref().map(|session| session.id) else { return };
        if !is_among(id, except) {
            self.act_on(id, now, |conn, turn| conn.close(code, reason, turn));
        }
    }

    fn broadcast_to(&mut self, slot: u32, protocol: Protocol, frame: &SharedFrame, except: &[[u8; 8]], now: Moment) {
        let Some(mut session) = self.take_any(slot as usize) else { return };
        if session.policy.protocol == protocol && Self::takes_frames(&session) && !is_among(session.id, except) {
            add(&self.mailbox().stats.messages_out, 1);
            session.tally.messages_out += 1;
            let frame = self.form_for(&session, frame);
            if session.conn.is_mid_fragments() {
                // It was not said to this connection: nothing of it counts as saved.
                session.conn.wait_behind(frame, 0);
            } else {
                session.outbox.get_or_insert_with(|| self.pool.take_outbox()).push_shared(frame, &mut self.pool);
            }
            self.touch(&mut session, now);
        }
        self.put_back_bounded(session, now);
    }

    /// The form of a broadcast that a connection gets.
    fn form_for<'f>(&mut self, session: &Session, frame: &'f SharedFrame) -> &'f Arc<[u8]> {
        let (Some(agreed), Some(rules)) = (session.conn.deflate(), &session.policy.compression) else {
            return frame.plain();
        };
        let (frame, pressed) = frame.pressed(agreed, rules, &mut self.deflate);
        self.mailbox().stats.count_pressed(pressed);
        frame
    }

    /// A doomed connection still takes answers, but no more than its outbox may hold.
    fn takes_frames(session: &Session) -> bool {
        session.conn.is_open() || session.conn.may_send() && session.unsent_bytes() <= session.policy.max_outbox_bytes
    }

    fn touch(&mut self, session: &mut ActiveSession, now: Moment) {
        if !session.touched {
            session.touched = true;
            self.touched.push(session.id.slot());
        }
        // What was never offered to the socket says nothing about the reader.
        if session.unsent_bytes() > EARLY_WRITE_BYTES.min(session.policy.max_outbox_bytes) {
            self.write_elsewhere(session, now);
        }
    }

    /// Back into its slot; at once closed when its outbox is over its limit.
    fn put_back_bounded(&mut self, session: ActiveSession, now: Moment) {
        if session.unsent_bytes() > session.policy.max_outbox_bytes {
            return self.end_turn_elsewhere(session, now);
        }
        self.put_back(session);
    }

    fn write_elsewhere(&mut self, session: &mut ActiveSession, now: Moment) {
        let waker = session.waker.clone();
        self.write(session, now, &mut Context::from_waker(&waker));
    }

    /// Closes the connections of these users, but for those that were let in after the call.
    fn disconnect(&mut self, detail: &str, is_one: impl Fn(&str) -> bool, number: u64, now: Moment) {
        let report = Report { code: Code::SessionRevoked, event: None, detail };
        for slot in 0..self.sessions.len() {
            let Some(session) = &self.sessions[slot] else { continue };
            if session.seat.user().is_some_and(|own| is_one(own)) && is_older(session.granted, number) {
                let id = session.id;
                self.shielded(|shard| shard.act_on(id, now, |conn, turn| conn.violate(&report, turn)));
            }
        }
    }

    fn pause(&mut self, id: ConnectionId, paused: bool, now: Moment) {
        let Some(mut session) = self.take(id.slot(), id.generation()) else { return };
        if session.paused && !paused {
            session.conn.excuse(now);
            session.waker.wake_by_ref();
        }
        session.paused = paused;
        self.end_turn_elsewhere(session, now);
    }

    /// Begins the drain, or shortens one: what waits for its rate is delivered, and every connection gets its moment within
    /// the jitter.
    fn drain(&mut self, until: Moment, jitter_ms: u64, now: Moment) {
        let is_sooner = self.drain_until.is_none_or(|before| until < before);
        let until = self.drain_until.map_or(until, |before| before.min(until));
        self.drain_until = Some(until);
        let random = RandomState::new();
        for slot in 0..self.sessions.len() {
            let wait = jitter_ms.checked_add(1).map_or(0, |most| random.hash_one(slot) % most);
            let at = now.after_millis(wait).min(until);
            self.shielded(|shard| shard.begin_to_drain(slot, at, now));
        }
        if is_sooner {
            self.stop_at(until, now);
        }
        self.stop_when_drained();
    }

    fn begin_to_drain(&mut self, slot: usize, at: Moment, now: Moment) {
        let Some(mut session) = self.take_any(slot) else { return };
        // Also of a peer that has sent its close frame and whose last messages still wait.
        self.turn(&mut session, now, Connection::release_all_delayed);
        if session.conn.is_open() {
            session.drain_at = session.drain_at.min(at);
        }
        self.end_turn_elsewhere(session, now);
    }

    /// Ends what is left at the end of the drain; there is none where that never comes.
    fn stop_at(&self, until: Moment, now: Moment) {
        if until == Moment::NEVER {
            return;
        }
        let left = until.since(now);
        let (state, index) = (Arc::clone(&self.state), self.index);
        tokio::spawn(async move {
            tokio::time::sleep(left).await;
            state.shards[index].post(|buffer| buffer.commands.push(Command::Stop));
        });
    }

    /// Closes a session whose moment has come, once the application has had its messages: all that came until now, and
    /// nothing that comes later.
    pub(super) fn drain_session(&mut self, session: &mut ActiveSession, now: Moment) {
        session.is_draining = true;
        self.turn(session, now, Connection::release_all_delayed);
        let until = self.drain_until.unwrap_or(now);
        let has_unhandled = session.has_unhandled();
        if has_unhandled {
            session.waker.wake_by_ref();
        }
        let waits = session.conn.is_open() && (session.last_batch > self.answered || has_unhandled) && now < until;
        session.drain_at = if waits { now.after_millis(DRAIN_RETRY_MS).min(until) } else { Moment::NEVER };
        // A peer that has sent its close frame is closed in any case, once it has its answers.
        if !waits && session.conn.phase() != Phase::Parting {
            let report = Report { code: Code::Draining, event: None, detail: "the server is shutting down" };
            self.turn(session, now, |conn, turn| conn.violate(&report, turn));
        }
    }

    /// Drops what is left.
    fn stop(&mut self, now: Moment) {
        for slot in 0..self.sessions.len() {
            self.shielded(|shard| shard.drop_session(slot, now));
        }
        self.stopped = true;
    }

    fn drop_session(&mut self, slot: usize, now: Moment) {
        let Some(mut session) = self.take_any(slot) else { return };
        let report = Report { code: Code::Draining, event: None, detail: "the server is shutting down" };
        self.turn(&mut session, now, |conn, turn| {
            conn.violate(&report, turn);
            conn.say_goodbye(turn);
        });
        self.write_at_last(&mut session, now);
        self.turn(&mut session, now, Connection::handle_eof);
        self.remove(session, now);
    }
}

/// Whether `id` is one of `ids`, which are in ascending order.
fn is_among(id: ConnectionId, ids: &[[u8; 8]]) -> bool {
    ids.binary_search(&id.to_u64().to_be_bytes()).is_ok()
}
