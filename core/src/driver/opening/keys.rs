//! A token that names a key which was not fetched yet: its handshake waits for the fetch, and no shard does.

use std::sync::Arc;

use super::lingering::watch_peer;
use super::request::restarting;
use super::{HandshakeEnd, HandshakeOutcome, OpeningHandshake};
use crate::driver::shard;
use crate::driver::stream::Stream;
use wsguard_proto::handshake::Refusal;
use wsguard_proto::verdict::Code;

/// Fetches that a handshake waits for: one may have begun before the issuer had the key.
const MOST_FETCHES: usize = 2;

impl OpeningHandshake {
    /// Waits for the key, where one may come, and judges the request once more. The head stands in front of `received`.
    pub(super) async fn await_keys(
        &mut self,
        mut outcome: Box<HandshakeOutcome>,
        head_len: usize,
        stream: &mut Stream,
        received: &mut Vec<u8>,
    ) -> Result<Box<HandshakeOutcome>, HandshakeEnd> {
        let mut fetches = 0;
        while let HandshakeOutcome::KeyUnknown(jwks, _) = &*outcome {
            let newest = self.state.set();
            // A reload has put another set in its place: that one is to be asked.
            let is_replaced = jwks.is_retired() && !Arc::ptr_eq(&newest, &self.set);
            if is_replaced {
                self.set = newest;
                outcome = self.check_request_boxed(&received[..head_len], stream)?;
                continue;
            }
            if fetches == MOST_FETCHES {
                break;
            }
            fetches += 1;
            let Some(fetched) = jwks.ask(self.state.jwks.now()) else { break };
            // All who waited come at once.
            let turn = async {
                fetched.await;
                shard::expensive_step().await;
            };
            tokio::select! {
                biased;
                () = turn => {}
                () = tokio::time::sleep_until(self.deadline) => {
                    let detail = self.too_late("no keys of auth.jwt.jwks_url came");
                    return Err(Refusal::new(Code::AuthUnavailable, detail).into());
                }
                () = shard::last_turns(&self.state, self.shard) => return Err(restarting().into()),
                () = watch_peer(stream, received, self.policy.max_head_bytes) => return Err(HandshakeEnd::Gone),
            }
            outcome = self.check_request_boxed(&received[..head_len], stream)?;
        }
        if matches!(*outcome, HandshakeOutcome::KeyUnknown(..)) && self.policy.report_handshakes {
            self.no_key_comes = true;
            outcome = self.check_request_boxed(&received[..head_len], stream)?;
        }
        Ok(outcome)
    }
}
