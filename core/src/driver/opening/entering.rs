//! A user's place on all nodes of a cluster, between authentication and the 101.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::admission::Admission;
use super::request::restarting;
use super::{Granted, OpeningHandshake};
use crate::driver::membership::Membership;
use crate::driver::nodes::Entered;
use crate::driver::shard;
use wsguard_proto::handshake::Refusal;
use wsguard_proto::limits::Full;
use wsguard_proto::verdict::Code;

/// What the cluster may take where nothing else bounds a handshake.
const LONGEST: Duration = Duration::from_secs(5);

impl OpeningHandshake {
    /// Nobody is let in where the cluster cannot be asked, and the options say so.
    pub(super) fn check_cluster(&self) -> Result<(), Refusal> {
        if self.state.cluster.get().is_none_or(|membership| !membership.is_closed()) {
            return Ok(());
        }
        let refusal =
            Refusal::new(Code::ClusterUnavailable, "the cluster cannot be reached, and cluster.on_outage is closed");
        Err(Refusal { retry_after_s: Some(1), ..refusal })
    }

    /// Whether other nodes have a word in whether there is a place for this user.
    pub(super) fn asks_cluster(&self, pass: &Granted) -> bool {
        pass.identity.user.is_some() && self.state.cluster.get().is_some_and(Membership::counts_users)
    }

    /// Takes a place for the user here, so that what the cluster says of the user's buckets is kept, and then on all nodes.
    pub(super) async fn enter_cluster(&mut self, pass: &Granted) -> Result<Option<Entered>, Refusal> {
        // Whoever is not let in for another reason is no question to the cluster.
        let Some(user) = self.admit_user(pass)? else { return Ok(None) };
        let Some(membership) = self.state.cluster.get() else { return Ok(None) };
        let entering = membership.enter(Arc::clone(&user), self.policy.max_connections_per_user);
        // The cluster's own bound is shorter; where the application may take its time, nothing is left of the handshake's.
        let longest = if self.state.consulting.without_deadline { Instant::now() + LONGEST } else { self.deadline };
        let refusal = tokio::select! {
            biased;
            answered = timeout_at(longest, entering) => match answered {
                Ok(Ok(entered)) => match self.check_cluster() {
                    Ok(()) => return Ok(Some(entered)),
                    Err(refusal) => refusal,
                },
                Ok(Err(_)) => Refusal::full(Full::of_user(), &self.policy),
                Err(_) => Refusal::new(Code::ClusterUnavailable, self.too_late("no answer of the cluster")),
            },
            () = shard::last_turns(&self.state, self.shard) => restarting(),
        };
        // Not for as long as the answer takes to be read.
        if let Admission::Admitted { seat, .. } = &mut self.admission {
            seat.leave_user();
        }
        Err(Refusal { user: Some((&*user).into()), ..refusal })
    }
}
