//! Attackers: each throws dice for its next act, for as long as it may. What an act may be answered is said with it; an
//! answer that is never right (an upgrade without a credential, an offender still served) is counted as let through.

mod application;
mod bombs;
mod floods;
mod frames;
mod handshakes;

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::dice::Dice;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::wire::{Dial, Target, Wire};
use wsguard_test_support::{ensure, fail, frame};

use crate::policy::Policy;
use crate::tally::Tally;

/// How many attack one server at the same time.
pub(crate) const ATTACKERS: usize = 6;

/// The last parts of the addresses that all attackers use.
const ADDRESSES: std::ops::Range<u64> = 100..106;

/// One kind of attack.
struct Act {
    name: &'static str,
    run: fn(&mut Attacker<'_>) -> Outcome,
}

/// Every kind, by the file that has it.
fn acts() -> Vec<&'static Act> {
    [handshakes::ACTS, frames::ACTS, bombs::ACTS, floods::ACTS, application::ACTS].into_iter().flatten().collect()
}

fn chosen(only: &[String]) -> Vec<&'static Act> {
    acts().into_iter().filter(|act| only.is_empty() || only.iter().any(|name| name == act.name)).collect()
}

/// Whether there is something of each kind that is asked for.
pub(crate) fn check(only: &[String]) -> Outcome {
    let known = acts().iter().map(|act| act.name).collect::<Vec<_>>();
    match only.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => fail!("no attack {name:?}; there are {}", known.join(", ")),
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Attacker<'a> {
    target: &'a Target,
    tally: &'a Tally,
    policy: Policy,
    dice: Dice,
    number: usize,
}

impl<'a> Attacker<'a> {
    /// The one with this number.
    pub(crate) fn new(number: usize, target: &'a Target, tally: &'a Tally, policy: Policy, seed: u64) -> Self {
        Self { target, tally, policy, dice: Dice::of_stream(seed, number as u64), number }
    }

    /// Attacks until it is to stop.
    pub(crate) fn live(mut self, only: &[String]) {
        let acts = chosen(only);
        while !self.stops() {
            let act = *self.dice.pick(&acts);
            if let Err(failure) = (act.run)(&mut self) {
                self.tally.let_through.add(1);
                self.tally.note(failure.during(format_args!("attack {}", act.name)));
            }
            self.tally.attack(act.name);
            self.dice.pause(5..100);
        }
    }

    fn stops(&self) -> bool {
        self.tally.attackers_stop.load(Ordering::Relaxed)
    }

    /// From an address of the attackers, never of an honest client.
    fn dial(&mut self) -> Dial {
        Dial::from_host(self.dice.within(ADDRESSES) as u8)
    }

    /// A handshake with a good credential.
    fn opening(&mut self) -> Opening {
        let user = self.dice.within(0..Policy::USERS as u64) as usize;
        Opening::with_token(&self.policy.evil_token(user))
    }

    /// A connection over which nothing was sent; `None`: the server is not there or does not take it.
    fn socket(&mut self) -> Option<Client> {
        let dial = self.dial();
        self.connect(dial)
    }

    /// Nobody comes any more when the time is over: a server that hangs lets every one wait.
    fn connect(&self, dial: Dial) -> Option<Client> {
        if self.stops() { None } else { self.target.connect(dial).ok().map(Client::over) }
    }

    /// A socket without TLS, from any address.
    fn tcp(&mut self) -> Option<TcpStream> {
        let dial = self.dial();
        if self.stops() { None } else { self.target.tcp(dial).ok() }
    }

    /// An open connection; `None`: the limits of the address, of the server or of the application refused it.
    fn open(&mut self) -> Outcome<Option<Client>> {
        let dial = self.dial();
        self.open_from(dial)
    }

    fn open_from(&mut self, dial: Dial) -> Outcome<Option<Client>> {
        let opening = self.opening();
        self.open_with(dial, &opening)
    }

    fn open_with(&mut self, dial: Dial, opening: &Opening) -> Outcome<Option<Client>> {
        let Some(mut client) = self.connect(dial) else { return Ok(None) };
        match status_of(&mut client, &opening.bytes())? {
            Some(101) => Ok(Some(client)),
            None | Some(408 | 429 | 503) => Ok(None),
            // The application disconnected this user while the place was asked of Redis: let in before, not yet open.
            Some(401) if self.policy == Policy::Cluster => Ok(None),
            Some(status) => fail!("a good handshake was answered {status}"),
        }
    }

    /// Sends a request that must be refused with one of these; the limits may refuse it before.
    fn refused(&mut self, request: &[u8], statuses: &[u16]) -> Outcome {
        let Some(mut client) = self.socket() else { return Ok(()) };
        match status_of(&mut client, request)? {
            Some(status) if !statuses.contains(&status) && !matches!(status, 408 | 429 | 503) => {
                fail!("answered {status} instead of {statuses:?}")
            }
            Some(_) => client.gone(PATIENCE),
            None => Ok(()),
        }
    }

    /// Opens a connection, sends this, and wants it closed with one of these.
    fn closed_for(&mut self, bytes: &[u8], codes: &[u16]) -> Outcome {
        let Some(mut client) = self.open()? else { return Ok(()) };
        if client.send(bytes).is_err() {
            return Ok(());
        }
        ends(&mut client, codes, PATIENCE)
    }
}

/// Sends a request; the status of its answer, `None` when the socket ended instead.
fn status_of(client: &mut Client, request: &[u8]) -> Outcome<Option<u16>> {
    if client.send(request).is_err() {
        return Ok(None);
    }
    match client.answer(PATIENCE) {
        Ok(answer) => Ok(Some(answer.status)),
        Err(failure) if is_silence(&failure) => Err(failure.during("no answer to a handshake")),
        Err(failure) if failure.0.starts_with("not an HTTP response") => Err(failure),
        Err(_) => Ok(None),
    }
}

/// Waits until the server has ended the connection. A close frame must have one of these codes, or 1008: the user may be
/// disconnected, and its rate be used up by others. No codes: any will do.
fn ends(client: &mut Client, codes: &[u16], within: Duration) -> Outcome {
    let deadline = Instant::now() + within;
    loop {
        let frame = match client.frame(deadline.saturating_duration_since(Instant::now())) {
            Ok(frame) => frame,
            Err(failure) if is_silence(&failure) => return Err(failure.during("an offender is still connected")),
            Err(failure) if failure.0.starts_with("the server sent") => return Err(failure),
            // It was reset: bytes of ours were still under way.
            Err(_) => return Ok(()),
        };
        if frame.opcode == frame::CLOSE {
            let (code, _) = frame.close_code();
            ensure!(
                codes.is_empty() || code == 1008 || codes.contains(&code),
                "closed with {code} instead of {codes:?}"
            );
            let _ = client.send(&frame::encode(frame::CLOSE, &frame.payload));
            return gone(client);
        }
    }
}

/// The socket ends soon; how does not matter.
fn gone(client: &mut Client) -> Outcome {
    match client.gone(PATIENCE) {
        Err(failure) if is_silence(&failure) => Err(failure),
        _ => Ok(()),
    }
}

fn is_silence(failure: &Failure) -> bool {
    failure.0.contains("nothing came within")
}

/// Leaves without a word: by reset, or by FIN.
fn abandon(wire: Wire, by_reset: bool) {
    if by_reset {
        let _ = wire.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let mut names = acts().iter().map(|act| act.name).collect::<Vec<_>>();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 30, "{count}");
    }
}
