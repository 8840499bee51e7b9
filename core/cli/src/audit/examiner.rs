//! The one who knocks: opens connections within the budget, and keeps what all checks need to know of the server.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};

use super::access::Access;
use super::frame::{self, TEXT};
use super::head::{Answer, Ask, LONGEST_HEAD, Parsed};
use super::likeness::{self, Likeness};
use super::limits::Purse;
use super::message::Message;
use super::ruling::{Ruled, Ruling, Verdict};
use super::seen::{Bait, Content, End, Seen, bait};
use super::target::Target;
use super::text::{Redactor, shown};
use super::tls::{self, CertificateFault};
use super::visit::{Control, Visit};
use crate::reach;
use crate::wire::{Got, Wire};

/// How long a server that was let answer a ping gets to throw one out: a look at a database or two.
pub(crate) const SETTLED: Duration = Duration::from_millis(1500);

/// What became of an opening handshake.
pub(crate) enum Opening<'e> {
    /// 101.
    Open(Box<Visit<'e>>),
    /// Another status.
    Refused(Answer),
    /// No answer at all, for this reason.
    Ended(End),
    /// Nothing in time.
    Silent,
    /// There is no connection.
    Unreachable(Unreached),
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// The audit may make no more.
    Spent(&'static str),
    /// The server could not be reached.
    Failed(String),
    /// It has a certificate that no credential may be sent to.
    Distrusted(String),
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spent(what) => f.write_str(what),
            Self::Failed(why) | Self::Distrusted(why) => f.write_str(why),
        }
    }
}

/// Whether one is let in by an opening handshake, and stays.
pub(crate) enum Entry<'e> {
    /// Open, and the control was answered.
    In(Box<Visit<'e>>),
    /// Open, and then ended by the server.
    Late(String),
    /// Refused, by this status if there was an answer.
    Refused(Option<u16>, String),
    /// Cannot be told.
    Unclear(String),
}

pub(crate) struct Examiner {
    pub(crate) target: Target,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Whom a certificate may be signed by.
    pub(crate) authorities: RootCertStore,
    pub(crate) purse: Purse,
    /// Whether credentials are sent whatever the certificate says.
    pub(crate) trusts_any: bool,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) message: Message,
    pub(crate) access: Access,
    /// An opening handshake that is let in, or why there is none.
    pub(crate) way_in: Result<Ask, String>,
    /// The same with what was tried first, where none is let in.
    pub(crate) first_try: Ask,
    pub(crate) ordinary: OnceLock<Ordinary>,
    pub(crate) any_origin: OnceLock<bool>,
    /// Whether one is let in by what browsers add by themselves, where more was given.
    pub(crate) ambient_is_enough: OnceLock<bool>,
    /// What becomes of a text that is no message of the application's.
    pub(crate) other_text: OnceLock<Content>,
    pub(crate) silence: Mutex<Silence>,
    /// How the server refused further connections of a burst, once it has.
    pub(crate) burst_refused: OnceLock<String>,
}

/// What is known of the ordinary message.
#[derive(Clone)]
pub(crate) struct Ordinary {
    /// Whether it is taken when it comes as it should.
    pub(crate) content: Content,
    /// How many messages answer it.
    pub(crate) answers: u64,
    /// What those have in common, if that is known.
    pub(crate) like: Vec<Likeness>,
    /// Whether the server says something by itself as well.
    pub(crate) talks: bool,
    /// What the second one was answered with, where that is a refusal, and the first one was not.
    pub(crate) refused_again: Option<String>,
    /// The bytes of one answer, where there is one.
    pub(crate) bytes: u64,
}

impl Ordinary {
    fn refused(how: String) -> Self {
        Self {
            content: Content::Refused(how),
            answers: 0,
            like: Vec::new(),
            talks: false,
            refused_again: None,
            bytes: 0,
        }
    }

    /// Of what answered it twice. A greeting comes once, and before the answer; what a server sends by itself may come between: the
    /// fewer are answers.
    fn answered(content: Content, first: &Reply, second: &Reply, talks: bool) -> Self {
        let answers = first.messages.min(second.messages);
        let refusal = |reply: &Reply| reply.texts.iter().find(|text| likeness::refuses(text)).map(|text| shown(text));
        let refused_again = refusal(second).filter(|_| !talks && refusal(first).is_none());
        let bytes = if talks { 0 } else { second.bytes.checked_div(second.messages).unwrap_or_default() };
        Self { content, answers, like: first.likeness(second, talks), talks, refused_again, bytes }
    }
}

/// What came after a message.
#[derive(Default)]
struct Reply {
    messages: u64,
    bytes: u64,
    /// The texts among the first messages of a connection.
    texts: Vec<String>,
}

impl Reply {
    /// What the answers have in common with the second ones: the same words, if those were said before. Where a server talks besides,
    /// nothing tells which of other words are answers.
    fn likeness(&self, second: &Self, talks: bool) -> Vec<Likeness> {
        let is_known = |reply: &Self| reply.texts.len() as u64 == reply.messages;
        if !is_known(second) || second.messages > self.messages {
            return Vec::new();
        }
        if second.texts.iter().all(|text| self.texts.contains(text)) {
            return second.texts.iter().filter_map(|text| Likeness::of(text, text)).collect();
        }
        if talks || !is_known(self) {
            return Vec::new();
        }
        let answers = &self.texts[self.texts.len() - second.texts.len()..];
        // Either all or none: the rest would count as held back.
        answers
            .iter()
            .zip(&second.texts)
            .map(|(one, other)| Likeness::of(one, other))
            .collect::<Option<_>>()
            .unwrap_or_default()
    }
}

/// What is known of a connection that sends nothing: how long it was watched, and how it ended meanwhile.
#[derive(Default)]
pub(crate) struct Silence {
    watched: Duration,
    end: Option<String>,
}

impl Examiner {
    /// Of the credentials, and of whatever the query of the URL holds.
    pub(crate) fn redactor(&self) -> Redactor {
        Redactor::new(self.access.secrets().chain(self.target.secrets()))
    }

    /// Whether a credential may go only to a server with a certificate that is to be trusted.
    pub(crate) fn is_guarded(&self) -> bool {
        self.tls.is_some() && !self.access.is_empty() && !self.is_loopback() && !self.trusts_any
    }

    /// Why no credential may be sent on a connection. Each is judged: one who stands in between may let the first one through.
    fn distrust(&self, wire: &Wire, name: &ServerName<'static>) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match tls::judge(&wire.certificates(), name, self.authorities.clone(), UnixTime::since_unix_epoch(now)) {
            Ok(None | Some(CertificateFault::EndsSoon)) => None,
            Ok(Some(fault)) => Some(format!(
                "the certificate of {} is not to be trusted ({}), so the credential was not sent: --ca names its authority, \
                 --trust-any-certificate sends it nevertheless",
                self.target.at.host,
                fault.words()
            )),
            Err(why) => Some(why),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| reach::is_on_this_machine(address.ip()))
    }

    /// Connects to the first address that takes it.
    pub(crate) fn dial(&self, apart: Option<Duration>) -> Result<Wire, Unreached> {
        let tls = self.tls.as_ref().map(|(config, name)| (config, name));
        self.dial_as(tls, apart)
    }

    /// Connects without TLS, whatever the URL says.
    pub(crate) fn dial_plain(&self) -> Result<Wire, Unreached> {
        self.dial_as(None, None)
    }

    fn dial_as(
        &self,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
        apart: Option<Duration>,
    ) -> Result<Wire, Unreached> {
        self.purse.connection(apart).map_err(Unreached::Spent)?;
        let mut first = None;
        for address in &self.addresses {
            match Wire::dial(*address, tls, self.purse.within(self.timeout)) {
                Ok(wire) => match tls.filter(|_| self.is_guarded()).and_then(|(_, name)| self.distrust(&wire, name)) {
                    None => return Ok(wire),
                    Some(why) => _ = first.get_or_insert(Unreached::Distrusted(why)),
                },
                Err(error) => _ = first.get_or_insert(Unreached::Failed(error)),
            }
        }
        Err(first.unwrap_or_else(|| Unreached::Failed("no address".to_owned())))
    }

    /// Sends a request as it is, and reads the answer.
    pub(crate) fn request(&self, bytes: &[u8], apart: Option<Duration>) -> Opening<'_> {
        let mut wire = match self.dial(apart) {
            Ok(wire) => wire,
            Err(error) => return Opening::Unreachable(error),
        };
        if !self.purse.bytes(bytes.len()) {
            return Opening::Unreachable(Unreached::Spent("the bytes of the plan are spent"));
        }
        let written = wire.write(bytes, self.purse.within(self.timeout));
        match self.answer(&mut wire) {
            Ok((answer, rest)) => match answer.upgrades() {
                Ok(true) => Opening::Open(Box::new(Visit::new(wire, &self.purse, answer, &rest))),
                Ok(false) => Opening::Refused(answer),
                Err(what) => Opening::Ended(End::Garbage(what)),
            },
            Err(Some(end)) => Opening::Ended(written.err().unwrap_or(end)),
            Err(None) => Opening::Silent,
        }
    }

    /// Reads the head of an answer, and what came behind it; no end means that nothing whole came in time. Interim answers, such as
    /// 103, are read away: they count as a part of the head.
    fn answer(&self, wire: &mut Wire) -> Result<(Answer, Vec<u8>), Option<End>> {
        let deadline = Instant::now() + self.purse.within(self.timeout);
        let (mut head, mut buffer, mut interim) = (Vec::new(), [0; 4096], 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(None);
            }
            match wire.read(&mut buffer, left) {
                Got::Bytes(count) => head.extend(&buffer[..count]),
                Got::Nothing => continue,
                Got::End(end) => return Err(Some(end)),
            }
            loop {
                match Answer::parse(&head) {
                    Parsed::Whole(answer, len) if answer.is_interim() => {
                        interim += len;
                        head.drain(..len);
                    }
                    Parsed::Whole(answer, len) => return Ok((answer, head.split_off(len))),
                    Parsed::Garbage(what) => return Err(Some(End::Garbage(what))),
                    Parsed::Partial => break,
                }
            }
            if interim + head.len() > LONGEST_HEAD {
                return Err(Some(End::TooMuch));
            }
        }
    }

    /// An opening handshake; one that a busy server refuses is tried again.
    pub(crate) fn open(&self, ask: &Ask) -> Opening<'_> {
        for _ in 0..2 {
            match self.request(&ask.bytes(), None) {
                Opening::Refused(answer) if answer.is_busy() => {
                    std::thread::sleep(self.purse.within(Duration::from_secs(answer.retry_after())));
                }
                other => return other,
            }
        }
        self.request(&ask.bytes(), None)
    }

    /// An opening handshake, and the control.
    pub(crate) fn enter(&self, ask: &Ask) -> Entry<'_> {
        let connect = self.target.engine_io.then(|| ask.access.connect());
        match self.open(ask) {
            Opening::Open(mut visit) => match visit.control(connect.as_deref(), self.timeout) {
                Control::Alive => Entry::In(visit),
                Control::Ended(how) => Entry::Late(format!("101, then {how}")),
                Control::Mute => Entry::Unclear("101, but no answer to a ping".to_owned()),
            },
            Opening::Refused(answer) if answer.is_busy() => {
                Entry::Unclear(format!("the server is busy: {}", answer.shown()))
            }
            Opening::Refused(answer) => Entry::Refused(Some(answer.status), answer.shown()),
            Opening::Ended(end @ (End::Closed | End::Reset | End::Alert(_))) => Entry::Refused(None, end.shown()),
            Opening::Ended(end) => Entry::Unclear(end.shown()),
            Opening::Silent => Entry::Unclear("no answer in time".to_owned()),
            Opening::Unreachable(why) => Entry::Unclear(why.to_string()),
        }
    }

    /// The same, and time for the server to throw one out again: many look at origin and credential only after the 101, and their
    /// library answers pings meanwhile.
    pub(crate) fn enter_to_stay(&self, ask: &Ask) -> Entry<'_> {
        let mut entry = self.enter(ask);
        if let Entry::In(visit) = &mut entry {
            let left = |seen: &Seen| self.target.engine_io && seen.has_left_socket_io();
            // Who is sent as much as that is in; more of it would be the bytes of the plan.
            visit.wait(SETTLED, |seen| seen.messages >= 8 || left(seen));
            if left(&visit.seen) {
                return Entry::Late("101, an answered ping, then disconnected by Socket.IO".to_owned());
            }
            if visit.seen.is_thrown_out() {
                let how = visit.seen.ending().unwrap_or_default();
                return Entry::Late(format!("101, an answered ping, then {how}"));
            }
        }
        entry
    }

    /// The way in, for a check that compares with it.
    pub(crate) fn way(&self) -> Result<&Ask, Ruling> {
        self.way_in.as_ref().map_err(|why| Ruling::unknown("", format!("there is no way in to compare with: {why}")))
    }

    /// A connection that is let in, with its control.
    pub(crate) fn visit(&self) -> Result<Box<Visit<'_>>, Ruling> {
        self.visit_as(self.way()?)
    }

    /// The same by this handshake.
    pub(crate) fn visit_as(&self, ask: &Ask) -> Result<Box<Visit<'_>>, Ruling> {
        match self.enter(ask) {
            Entry::In(visit) => Ok(visit),
            Entry::Late(how) | Entry::Refused(_, how) | Entry::Unclear(how) => {
                Err(Ruling::unknown("", format!("the control was not let in this time: {how}")))
            }
        }
    }

    /// A refusal says something only while the control is still let in: a server may have banned the address, or died.
    pub(crate) fn confirmed(&self, ruling: Ruling) -> Ruled {
        if ruling.verdict != Verdict::Passed {
            return Ok(ruling);
        }
        match self.enter(self.way()?) {
            Entry::In(_) => Ok(ruling),
            Entry::Late(how) | Entry::Refused(_, how) | Entry::Unclear(how) => Ok(Ruling::unknown(
                ruling.sent,
                format!("{}, but then the control was not let in either: {how}", ruling.came),
            )),
        }
    }

    /// What became of something wrong, with a ping behind it. An end that comes to the silent too says nothing of it.
    pub(crate) fn judge(&self, visit: &Visit<'_>, tag: &str, content: &Content) -> Bait {
        match bait(&visit.seen, tag, content) {
            Bait::Refused(how) => match self.end_of_silence(visit) {
                Some(end) => Bait::Unclear(format!("{how}, but so ends a connection that sends nothing ({end})")),
                None => Bait::Refused(how),
            },
            judged => judged,
        }
    }

    /// The same of a ruling.
    pub(crate) fn unless_silence_ends(&self, visit: &Visit<'_>, ruling: Ruling) -> Ruling {
        if ruling.verdict != Verdict::Passed {
            return ruling;
        }
        match self.end_of_silence(visit) {
            Some(end) => {
                let why = format!("{}, but so ends a connection that sends nothing ({end})", ruling.came);
                Ruling::unknown(ruling.sent, why)
            }
            None => ruling,
        }
    }

    /// How a connection that sends nothing ends within the time that this one lasted: many applications wait some seconds for a
    /// credential in the first message. Who is let in stays for `SETTLED`, so that what ends before was ended for what it sent.
    fn end_of_silence(&self, visit: &Visit<'_>) -> Option<String> {
        let age = visit.age();
        if age < SETTLED || !visit.seen.is_over() || visit.seen.fails_by_protocol() {
            return None;
        }
        let until = age + Duration::from_millis(500);
        let mut known = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if known.end.is_none() && known.watched < until {
            let mut silent = self.visit().ok()?;
            silent.wait(until.saturating_sub(silent.age()), |_| false);
            let end = silent.seen.is_thrown_out().then(|| silent.seen.ending()).flatten();
            *known = Silence { watched: silent.age(), end };
        }
        known.end.clone().filter(|_| known.watched <= until)
    }

    /// Whether the ordinary message is taken when it comes as it should, and how many messages say so: none where the server says
    /// something by itself as well.
    pub(crate) fn content(&self) -> (Content, u64) {
        let ordinary = self.ordinary();
        (ordinary.content, if ordinary.talks { 0 } else { ordinary.answers })
    }

    /// All that is known of the ordinary message. Asked once.
    pub(crate) fn ordinary(&self) -> Ordinary {
        self.ordinary.get_or_init(|| self.try_ordinary()).clone()
    }

    fn try_ordinary(&self) -> Ordinary {
        let Ok(mut visit) = self.visit() else {
            return Ordinary::refused("there was no connection to try it on".to_owned());
        };
        let Some(first) = self.say(&mut visit, "wsguard-audit content") else {
            return Ordinary::refused(visit.seen.ending().unwrap_or_else(|| "no answer to a ping".to_owned()));
        };
        // Some are valid once, as a credential in the first message is. Not at once: there may be a limit of their rate.
        let before = visit.seen.messages;
        visit.wait(SETTLED, |_| false);
        let talks = visit.seen.messages > before;
        let second = self.say(&mut visit, "wsguard-audit again").unwrap_or_default();
        if talks || second.messages < first.messages.max(1) {
            // An application may refuse it later than its library answers the ping.
            let grace = visit.grace(self.timeout);
            visit.wait(grace, |_| false);
        }
        let content = match visit.seen.ending() {
            Some(how) if self.end_of_silence(&visit).is_none() => Content::Once(how),
            // It was not the message that ended it.
            _ => Content::Taken,
        };
        Ordinary::answered(content, &first, &second, talks)
    }

    /// What the answers have in common on this connection, which they may name. Costs one message more where that can be.
    pub(crate) fn likeness_on(&self, visit: &mut Visit<'_>, ordinary: &Ordinary) -> Vec<Likeness> {
        if !ordinary.like.iter().any(|like| matches!(like, Likeness::Same(_))) {
            return ordinary.like.clone();
        }
        let (all, kept) = (visit.seen.messages + ordinary.answers, visit.seen.texts.len());
        self.say(visit, "wsguard-audit here");
        let grace = visit.grace(self.timeout);
        visit.wait(grace, |seen| seen.messages >= all);
        let texts = &visit.seen.texts[kept..];
        ordinary.like.iter().map(|like| like.on_another(texts, self.message.text())).collect()
    }

    /// Sends the ordinary message, and tells what came until a ping behind it was answered.
    fn say(&self, visit: &mut Visit<'_>, tag: &str) -> Option<Reply> {
        let (messages, bytes, texts) = (visit.seen.messages, visit.seen.bytes, visit.seen.texts.len());
        visit.send(&frame::masked(TEXT, self.message.text().as_bytes()));
        // An answer, or an end, comes soon where it comes at all.
        let grace = visit.grace(self.timeout);
        visit.wait(grace, |seen| seen.messages > messages);
        visit.ping(tag, self.timeout)?;
        let seen = &visit.seen;
        Some(Reply {
            messages: seen.messages - messages,
            bytes: seen.bytes - bytes,
            texts: seen.texts[texts..].to_vec(),
        })
    }
}
