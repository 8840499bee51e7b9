//! Bans: what the application says, and what the server finds by itself, reach who comes and who is open.
//!
//! A ban is in the table before the shards are told. A connection looks into the table on its shard's own thread as the last
//! thing before it opens, so that it is either refused there or found by the walk that comes after.

use std::net::IpAddr;

use super::caught::said;
use super::clock::Clock;
use super::commands::Command;
use super::handle::ServerHandle;
use super::log::{Subject as Whose, VerdictRecord, escape, printable};
use super::state::ServerState;
use crate::error::Error;
use wsguard_proto::auth::check_user;
use wsguard_proto::bans::{self, Ban, MAX_REASON_BYTES, Subject};
use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::cluster::ops::Request;
use wsguard_proto::config::Policy;
use wsguard_proto::connection::Report;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// Whom a ban is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom<'w> {
    /// An address or a CIDR. An IPv6 address stands for its /64.
    Ip(&'w str),
    /// A user.
    User(&'w str),
}

impl Whom<'_> {
    fn subject(self) -> Result<Subject, Error> {
        match self {
            Whom::Ip(text) => Subject::network(text).map_err(Error::InvalidArgument),
            Whom::User(user) if check_user(user).is_err() => {
                Err(Error::InvalidArgument("user must be 1 to 256 bytes without control characters"))
            }
            Whom::User(user) => Ok(Subject::User(user.into())),
        }
    }
}

/// A ban that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BanInfo {
    /// The address or the CIDR that is banned.
    pub ip: Option<String>,
    /// The user that is banned.
    pub user: Option<String>,
    /// When it ends, in milliseconds since 1970; `None`: not by itself.
    pub ends_at_ms: Option<u64>,
    /// Why.
    pub reason: String,
    /// Whether the server has found it by itself: `auto_ban`.
    pub is_automatic: bool,
}

impl ServerHandle {
    /// Keeps an address, a network or a user out for `for_ms`, or until [`unban`](Self::unban): handshakes are refused with 403
    /// `banned`, and what is open is closed with 1008 `banned`. What was said of the same before does not count any more. In a
    /// cluster: on every node, also on one that starts later.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for what is no address or user, a time of 0, a reason of more than 256 bytes, and where 65536
    /// bans are in force; [`Error::Stopped`].
    pub fn ban(&self, whom: Whom<'_>, for_ms: Option<u64>, reason: &str) -> Result<(), Error> {
        self.check_running()?;
        let subject = whom.subject()?;
        if for_ms == Some(0) {
            return Err(Error::InvalidArgument("for_ms must be at least 1"));
        }
        if reason.len() > MAX_REASON_BYTES {
            return Err(Error::InvalidArgument("reason must be at most 256 bytes"));
        }
        let now = self.state.clock.now();
        let until = for_ms.map_or(Moment::NEVER, |ms| now.after_millis(ms));
        let shown = escape(&subject.to_string());
        let ban = Ban { subject, until, reason: reason.into(), is_automatic: false };
        lock(&self.state.bans).ban(ban.clone(), now).map_err(|_| {
            Error::InvalidArgument("65536 bans are in force, which is all there may be: lift one first")
        })?;
        let reason = printable(reason);
        said(
            || tracing::info!(target: "wsguard::audit", action = %"ban", who = %shown, for_ms, reason = reason.as_str()),
        );
        // What this thread said before is carried out before.
        self.flush();
        self.state.close_banned(Some(&ban));
        if let Some(membership) = self.state.cluster.get() {
            let Ban { subject, reason, .. } = ban;
            membership.cluster.request(Request::Ban { subject, for_ms, reason: reason.into() });
        }
        Ok(())
    }

    /// Lifts a ban of exactly this address, network or user; `false`: there was none. One within a network that is banned stays
    /// banned with it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for what is no address or user.
    pub fn unban(&self, whom: Whom<'_>) -> Result<bool, Error> {
        let subject = whom.subject()?;
        let was_banned = lock(&self.state.bans).unban(&subject, self.state.clock.now());
        if was_banned {
            let shown = escape(&subject.to_string());
            said(|| tracing::info!(target: "wsguard::audit", action = %"unban", who = %shown));
        }
        if let Some(membership) = self.state.cluster.get() {
            membership.cluster.request(Request::Unban { subject });
        }
        Ok(was_banned)
    }

    /// Whether whoever has this address or user is banned now: what is open of it is closed by that, as soon as the shard comes to it.
    pub fn is_banned(&self, ip: Option<IpAddr>, user: Option<&str>) -> bool {
        self.state.is_banned(ip, user)
    }

    /// The bans in force, in the order of their ends.
    pub fn bans(&self) -> Vec<BanInfo> {
        let (now, unix_ms) = (self.state.clock.now(), Clock::unix_ms());
        let list = lock(&self.state.bans).list(now);
        let told = list.into_iter().map(|ban| {
            let name = ban.subject.to_string();
            let (ip, user) = match ban.subject {
                Subject::Network(_) => (Some(name), None),
                Subject::User(_) => (None, Some(name)),
            };
            let left = || u64::try_from(ban.until.since(now).as_millis()).unwrap_or(u64::MAX);
            let ends_at_ms = (ban.until != Moment::NEVER).then(|| unix_ms.saturating_add(left()));
            BanInfo { ip, user, ends_at_ms, reason: ban.reason.into(), is_automatic: ban.is_automatic }
        });
        told.collect()
    }
}

impl ServerState {
    /// Whether whoever has this address or user is banned now.
    pub(super) fn is_banned(&self, ip: Option<IpAddr>, user: Option<&str>) -> bool {
        lock(&self.bans).find(ip, user, self.clock.now()).is_some()
    }

    /// The shards close what is open and banned.
    pub(super) fn close_banned(&self, ban: Option<&Ban>) {
        for mailbox in self.shards.iter() {
            let ban = ban.cloned().map(Box::new);
            mailbox.post(|buffer| buffer.commands.push(Command::CloseBanned(ban)));
        }
    }

    /// Counts a violation for `auto_ban`.
    /// Returns the record of the ban that comes of it.
    pub(super) fn count_offence(
        &self,
        code: Code,
        client: Option<IpAddr>,
        top: &Policy,
        now: Moment,
    ) -> Option<VerdictRecord> {
        let (Some(rules), Some(ip)) = (&top.auto_ban, client) else { return None };
        let address = AddressKey::from(ip);
        if !bans::counts(code) || !lock(&self.offences).note(address, rules, now) {
            return None;
        }
        let detail = format!("auto_ban: {} violations within {} ms", rules.violations, rules.window_ms);
        let until = now.after_millis(rules.ban_ms);
        if !lock(&self.bans).ban_automatically(address, until, &detail, now) {
            return None;
        }
        self.close_banned(None);
        let report = Report { code: Code::Banned, event: None, detail: &detail };
        self.sampler.record(&report, Whose { ip: Some(ip), ..Whose::default() }, now)
    }
}
