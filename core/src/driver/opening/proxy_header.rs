//! The PROXY header, before anything else of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::time::{timeout, timeout_at};

use super::admission::Admission;
use super::{OpeningHandshake, REFUSAL_TIMEOUT};
use crate::driver::stream::Stream;
use wsguard_proto::client_ip::canonical;
use wsguard_proto::proxy_protocol::{self, Progress};
use wsguard_proto::verdict::Code;

impl OpeningHandshake {
    /// PROXY protocol: required, and from a trusted peer only. Anything else is dropped unanswered.
    pub(super) async fn read_proxy_header(&mut self, stream: &mut Stream) -> Result<(), ()> {
        let policy = Arc::clone(&self.policy);
        if !policy.trusted_proxies.trusts(self.peer) {
            if let Admission::Refusing { full, .. } = self.admission {
                self.report(full.code(), &full.describe(&policy));
                return Err(());
            }
            // A peer that only probes whether the port is open breaks no rule.
            if let Ok(Ok(_)) = timeout(REFUSAL_TIMEOUT, stream.read_u8()).await {
                self.report(Code::ProxyHeaderInvalid, "peer is not in trusted_proxies");
            }
            return Err(());
        }
        match timeout_at(self.deadline, read_proxy_header(stream)).await {
            // Without a source (`LOCAL`, `UNKNOWN`) it is the proxy that speaks for itself.
            Ok(Ok(source)) => {
                self.knows_client = source.is_some();
                self.port = source.map(|source| source.port());
                self.ip = source.map(|source| canonical(source.ip())).or(self.ip);
                Ok(())
            }
            Ok(Err(detail)) => {
                if let Some(detail) = detail {
                    self.report(Code::ProxyHeaderInvalid, detail);
                }
                Err(())
            }
            Err(_) => {
                let refusal = self.timed_out("no whole PROXY header");
                self.report(refusal.code, &refusal.detail);
                Err(())
            }
        }
    }
}

/// Reads a PROXY header and not a byte more: what follows belongs to TLS or HTTP. Short reads are the price, paid
/// only where `proxy_protocol` is on.
///
/// `Err(None)`: the peer left without sending a byte, as one does that probes whether the port is open.
async fn read_proxy_header(stream: &mut Stream) -> Result<Option<SocketAddr>, Option<&'static str>> {
    let mut header = Vec::with_capacity(128);
    loop {
        match proxy_protocol::parse(&header) {
            Progress::Done { source, .. } => return Ok(source),
            Progress::Invalid => return Err(Some("PROXY header is missing or malformed")),
            Progress::NeedMore => match stream.read_u8().await {
                Ok(byte) => header.push(byte),
                Err(_) => return Err((!header.is_empty()).then_some("PROXY header is cut short")),
            },
        }
    }
}
