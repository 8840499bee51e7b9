//! Whether there is a place for a connection: counted on accept, and for its address once that is known.

use std::net::IpAddr;

use crate::driver::level::HeldOne;
use crate::driver::state::ServerState;
use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::config::Policy;
use wsguard_proto::limits::{Full, Seat};

/// Handshakes without a place that are kept only to be told so.
const MAX_REFUSING: usize = 1024;

/// The connection's place within `max_connections` and `max_connections_per_ip`.
pub(super) enum Admission {
    /// It has a place.
    Admitted { seat: Seat, address_is_counted: bool },
    /// It has none, and waits to be told so.
    Refusing { full: Full, _held: HeldOne },
}

/// Why an address is not admitted.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotAdmitted {
    /// A limit is reached: answer with it.
    Full(Full),
    /// Too many handshakes wait to be refused: drop the socket.
    TooManyRefused,
}

/// Whether the address is kept out whatever else counts.
fn check_bans(ip: Option<IpAddr>, state: &ServerState, policy: &Policy) -> Result<(), Full> {
    match ip {
        _ if policy.deny_ips.denies(ip) => Err(Full::of_denied()),
        _ if state.is_banned(ip, None) => Err(Full::of_banned()),
        _ => Ok(()),
    }
}

impl Admission {
    /// Takes a place for a new connection. `None`: there is none, and too many handshakes wait to be refused.
    pub(super) fn acquire(state: &ServerState, policy: &Policy) -> Option<Self> {
        match state.limits.enter_server(policy) {
            Ok(seat) => Some(Admission::Admitted { seat, address_is_counted: false }),
            Err(full) => Self::refuse(full, state),
        }
    }

    fn refuse(full: Full, state: &ServerState) -> Option<Self> {
        let held = state.refusing.hold_one_of(MAX_REFUSING)?;
        Some(Admission::Refusing { full, _held: held })
    }

    /// Counts the handshake for its address, once that is known.
    pub(super) fn enter_address(
        &mut self,
        ip: Option<IpAddr>,
        state: &ServerState,
        policy: &Policy,
    ) -> Result<(), NotAdmitted> {
        match self {
            Admission::Refusing { full, .. } => Err(NotAdmitted::Full(*full)),
            Admission::Admitted { address_is_counted: true, .. } => Ok(()),
            Admission::Admitted { seat, address_is_counted } => {
                *address_is_counted = true;
                let entered = check_bans(ip, state, policy)
                    .and_then(|()| seat.enter_address(ip.map(AddressKey::from), policy, state.clock.now()));
                let Err(full) = entered else { return Ok(()) };
                *self = Self::refuse(full, state).ok_or(NotAdmitted::TooManyRefused)?;
                Err(NotAdmitted::Full(full))
            }
        }
    }

    /// What the route says of the address, once the path is known.
    pub(super) fn enter_route(&self, state: &ServerState, policy: &Policy) -> Result<(), Full> {
        match self {
            Admission::Admitted { seat, .. } => seat.enter_route(policy, state.clock.now()),
            Admission::Refusing { full, .. } => Err(*full),
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Admission::Refusing { .. })
    }

    /// Whether the handshake is counted, or refused whatever it is.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self, Admission::Refusing { .. } | Admission::Admitted { address_is_counted: true, .. })
    }
}
