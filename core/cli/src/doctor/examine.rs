//! What the proxies on the way do: each thing is sent through them, and looked at on both ends.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use wsguard::ConnectionId;
use wsguard::binding::{Policy, PolicySet};
use wsguard_proto::auth::TokenSource;
use wsguard_proto::host_header::Authority;

use super::client::{self, Answer, Client, PATIENCE, TlsOptions};
use super::credential;
use super::stand_in::{Request, SUBPROTOCOL, Seen, StandIn};
use crate::outcome::Failure;
use crate::reach::Target;
use crate::terminal::{Paint, harmless};

/// Of a network for documentation (RFC 5737): no client has it.
const SPOOFED: &str = "203.0.113.99";
/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    /// Worth knowing.
    Note,
    /// To be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) mark: Mark,
    pub(super) about: &'static str,
    pub(super) words: String,
}

/// The examination.
pub(super) struct Examination<'e> {
    pub(super) target: Target,
    pub(super) addresses: Vec<SocketAddr>,
    tls: &'e TlsOptions,
    pub(super) origin: String,
    /// How long a connection is left silent; zero: it is not tried.
    pub(super) silence: Duration,
    /// Which paths are served.
    pub(super) set: &'e PolicySet,
    /// The policy of the URL's path.
    pub(super) policy: &'e Policy,
    /// Where a credential is looked for.
    places: Vec<TokenSource>,
    found: Vec<Found>,
}

/// A number that nobody guesses, for one run.
pub(super) fn nonce() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Failure::new("this machine gives no random bytes"))?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

impl<'e> Examination<'e> {
    pub(super) fn new(
        target: Target,
        addresses: Vec<SocketAddr>,
        (set, policy): (&'e PolicySet, &'e Policy),
        origin: String,
        tls: &'e TlsOptions,
    ) -> Self {
        let (places, silence) = (credential::places(policy), Duration::ZERO);
        Self { target, addresses, tls, origin, silence, set, policy, places, found: Vec::new() }
    }

    /// # Errors
    /// Nobody listens at the URL, or TLS fails there: nothing can be told of the way.
    pub(super) fn run(mut self, server: &StandIn, nonce: &str) -> Result<Vec<Found>, Failure> {
        let (one, answer) = self.open(nonce)?;
        if answer.status != 101 {
            self.not_upgraded(&answer, server);
            return Ok(self.found);
        }
        let request = server.see(PATIENCE, |seen| if let Seen::Request(request) = seen { Some(request) } else { None });
        let open = server
            .see(PATIENCE, |seen| if let Seen::Open { conn, ip, peer } = seen { Some((conn, ip, peer)) } else { None });
        let (Some(request), Some((conn, ip, peer))) = (request, open) else {
            self.tell(Mark::Bad, "upgrade", "was answered 101 by somebody else: the doctor's server saw nothing of it");
            return Ok(self.found);
        };
        if answer.accepts() {
            self.tell(Mark::Good, "upgrade", "passes");
        } else {
            let words = "passes, but its Sec-WebSocket-Accept does not: every browser closes such a connection";
            self.tell(Mark::Bad, "upgrade", words);
        }
        self.path(&request);
        self.names(&request);
        self.credential(&request);
        let is_direct = peer.is_some_and(|peer| is_same(peer, one.local));
        self.address(&request, ip, peer.map(|peer| peer.ip()), one.local.ip(), is_direct);
        self.subprotocol(&request, &answer);
        self.compression(&request, &answer);
        // What broke a connection is told once: the next thing is looked at on one that works.
        let mut connection = (one, conn);
        if !self.messages(&mut connection.0) {
            match self.further(server, nonce, "messages") {
                Some(further) => connection = further,
                None => return Ok(self.found),
            }
        }
        self.pings(&mut connection.0, server, connection.1);
        self.close_codes(connection, server, nonce);
        if !self.silence.is_zero() {
            self.silent(nonce);
        }
        Ok(self.found)
    }

    fn tell(&mut self, mark: Mark, about: &'static str, words: impl Into<String>) {
        self.found.push(Found { mark, about, words: words.into() });
    }

    fn open(&self, nonce: &str) -> Result<(Client, Answer), Failure> {
        let mut client = Client::connect(&self.target, &self.addresses, self.tls, PATIENCE)?;
        let path = &self.target.path;
        let path = format!("{path}{}wsguard-doctor={nonce}", if path.contains('?') { '&' } else { '?' });
        let credentials = credential::headers(&self.places);
        let mut headers = vec![
            ("Origin", self.origin.as_str()),
            ("X-Forwarded-For", SPOOFED),
            ("Forwarded", "for=203.0.113.99"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("Sec-WebSocket-Protocol", SUBPROTOCOL),
        ];
        headers.extend(credentials.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let answer = client.upgrade(&self.target, &path, &headers, PATIENCE);
        let answer = answer
            .map_err(|error| Failure::new(format!("{}: the handshake was not answered: {error}", self.target)))?;
        Ok((client, answer))
    }

    fn not_upgraded(&mut self, answer: &Answer, server: &StandIn) {
        let by = answer.header("Server").map_or_else(String::new, |name| format!(" by {}", harmless(name, 64)));
        let why = match server.see(Duration::from_millis(500), |seen| refusal(seen, answer.status)) {
            Some(seen) => seen,
            None if answer.status == 401 => "a credential is asked for on the way".to_owned(),
            None => {
                "nothing of it reached the doctor's server: the proxy leads elsewhere, or passes no upgrade".to_owned()
            }
        };
        self.tell(Mark::Bad, "upgrade", format!("was answered {}{by}: {why}", answer.status));
    }

    /// Routes and `paths` are those that the server sees.
    fn path(&mut self, request: &Request) {
        let sent = self.target.path.split('?').next().unwrap_or_default();
        let (mark, words) = if request.path == sent {
            (Mark::Good, format!("passes as it was sent: {}", harmless(sent, 128)))
        } else {
            let came = harmless(&request.path, 128);
            (
                Mark::Bad,
                format!(
                    "was sent as {} and came as {came}: the policy's routes and paths are of what comes",
                    harmless(sent, 128)
                ),
            )
        };
        self.tell(mark, "path", words);
        if self.set.resolve(&request.path).is_none() {
            let words = format!(
                "{} is none of the policy's paths and routes: the server would answer 404",
                harmless(&request.path, 128)
            );
            self.tell(Mark::Bad, "path", words);
        }
    }

    /// What shows a credential has to reach the server.
    fn credential(&mut self, request: &Request) {
        let faults = credential::faults(&self.places, request);
        if !faults.is_empty() {
            let words = format!("{}: the proxy has to keep what the policy reads credentials from", faults.join(", "));
            self.tell(Mark::Bad, "credential", words);
        } else if !self.places.is_empty() {
            let places: Vec<_> = self.places.iter().map(ToString::to_string).collect();
            self.tell(Mark::Good, "credential", format!("passes: {}", harmless(&places.join(", "), 200)));
        }
    }

    fn names(&mut self, request: &Request) {
        for (name, about, sent) in
            [("host", "host", self.target.authority()), ("origin", "origin", self.origin.clone())]
        {
            let (mark, words) = match request.header(name) {
                Some(came) if came.eq_ignore_ascii_case(&sent) => {
                    (Mark::Good, format!("passes as it was sent: {}", harmless(came, 128)))
                }
                Some(came) => (
                    Mark::Bad,
                    format!("was sent as {sent} and came as {}: the proxy has to keep it", harmless(came, 128)),
                ),
                None => (Mark::Bad, format!("was sent as {sent} and did not come: the proxy has to keep it")),
            };
            self.tell(mark, about, words);
        }
        let host = harmless(request.header("host").unwrap_or_default(), 128);
        if Authority::parse(host.as_bytes()).is_some_and(|host| !self.policy.hosts.allows(&host)) {
            let words = format!("{host} is none of the policy's hosts: the server would answer 421");
            self.tell(Mark::Bad, "host", words);
        }
        if !self.policy.origins.allows(self.origin.as_bytes()) {
            self.tell(
                Mark::Note,
                "origin",
                format!("{} is none of the policy's origins: the server would refuse it", self.origin),
            );
        }
    }

    /// `is_direct`: nothing may be in between, since the URL leads to the server's own port.
    fn address(&mut self, request: &Request, ip: Option<IpAddr>, peer: Option<IpAddr>, own: IpAddr, is_direct: bool) {
        let spoofed: Option<IpAddr> = SPOOFED.parse().ok();
        let own = own.to_canonical();
        let last_hop = || last_of(request, "x-forwarded-for")?.parse::<IpAddr>().ok();
        let last_forwarded = || forwarded_for(last_of(request, "forwarded")?);
        let is_believed = self.policy.trusted_proxies.trusts(peer);
        // With the PROXY protocol the server reads neither header.
        let is_read = is_believed && !self.policy.proxy_protocol && !is_direct;
        if is_read && last_forwarded() == spoofed {
            self.tell(Mark::Bad, "address", "a client's own Forwarded passes: the proxy has to remove that header");
        }
        if ip == spoofed && is_direct {
            let words = format!(
                "nothing is in between, and this machine ({own}) is one of trusted_proxies: what it claims is believed; of a \
                 client elsewhere it is not"
            );
            return self.tell(Mark::Note, "address", words);
        }
        let appends = [("X-Forwarded-For", last_hop()), ("Forwarded", last_forwarded())];
        let appends = appends.into_iter().find(|(_, hop)| *hop == Some(own));
        if let (true, Some((name, _))) = (ip == spoofed && self.policy.trusted_proxies.trusts(Some(own)), appends) {
            // Whoever is no trusted proxy is the rightmost hop that counts.
            let words = format!(
                "the proxy appends {own} to {name}. This machine is itself one of trusted_proxies, so what it claims \
                 is believed; of a client elsewhere it is not"
            );
            return self.tell(Mark::Note, "address", words);
        }
        if ip == spoofed {
            let words = format!(
                "a client's own X-Forwarded-For is believed ({SPOOFED}): the proxy has to set the header, not to pass it on"
            );
            return self.tell(Mark::Bad, "address", words);
        }
        let shown = |ip: Option<IpAddr>| ip.map_or_else(|| "a Unix socket".to_owned(), |ip| ip.to_string());
        let is_told = request.header("x-forwarded-for").is_some() || request.header("forwarded").is_some();
        if is_believed && !is_told && !is_direct && !self.policy.proxy_protocol {
            let words = "the proxy tells no address of the client: it has to set X-Forwarded-For, or all clients count as the proxy";
            return self.tell(Mark::Bad, "address", words);
        }
        if ip == Some(own) && (is_believed || is_direct || self.policy.proxy_protocol) {
            return self.tell(
                Mark::Good,
                "address",
                format!("the server sees this client as {own}, whatever it claims"),
            );
        }
        // With the PROXY protocol the peer is who the proxy says it is: whoever that is, it is no proxy to trust.
        if !is_believed && !self.policy.proxy_protocol {
            let entry = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
            // Trust alone would not help where nobody says who the client is, and harm where the client itself does.
            let passes = |name: &str| request.all(name).any(|value| value.contains(SPOOFED));
            let more = if !is_told {
                ", and the proxy has to set X-Forwarded-For, which it does not"
            } else if passes("x-forwarded-for") && last_hop() == spoofed {
                ", but first the proxy has to set X-Forwarded-For, where it passes on the client's own"
            } else if passes("forwarded") {
                ", but first the proxy has to remove Forwarded, where it passes on the client's own"
            } else {
                ""
            };
            let words = format!(
                "the server sees the proxy ({}) as the client: \"trusted_proxies\": [\"{entry}\"]{more}",
                shown(peer)
            );
            return self.tell(Mark::Bad, "address", words);
        }
        self.tell(
            Mark::Note,
            "address",
            format!(
                "the server sees {} where this machine sent from {own}: an address translation, or another proxy",
                shown(ip)
            ),
        );
    }

    fn subprotocol(&mut self, request: &Request, answer: &Answer) {
        let is_ours = |value: Option<&str>| value.is_some_and(|value| value.contains(SUBPROTOCOL));
        let (mark, words) =
            match (is_ours(request.header("sec-websocket-protocol")), is_ours(answer.header("sec-websocket-protocol")))
            {
                (true, true) => (Mark::Good, "the offer and its answer pass"),
                (false, _) => (Mark::Bad, "the offer does not pass: neither do tokens of the source \"subprotocol\""),
                (true, false) => {
                    (Mark::Bad, "the offer passes, and its answer does not: browsers close the connection")
                }
            };
        self.tell(mark, "subprotocol", words);
    }

    fn compression(&mut self, request: &Request, answer: &Answer) {
        let (offered, agreed) =
            (request.header("sec-websocket-extensions").is_some(), answer.header("sec-websocket-extensions").is_some());
        match (offered, agreed) {
            (true, true) => self.tell(Mark::Good, "compression", "the offer and its answer pass"),
            (false, _) => {
                self.tell(Mark::Note, "compression", "the proxy removes the offer: nothing will be compressed");
            }
            (true, false) => self.tell(Mark::Note, "compression", "the offer comes, and its answer does not pass"),
        }
    }

    /// Whether they pass.
    fn messages(&mut self, client: &mut Client) -> bool {
        for (opcode, len) in [(client::TEXT, 5), (client::BINARY, 60_000)] {
            let payload = vec![b'x'; len];
            let words = match client.send(opcode, &payload).and_then(|()| client.frame(&mut 0, PATIENCE)) {
                Ok((came, bytes)) if came == opcode && bytes == payload => continue,
                Ok((came, bytes)) => format!("{len} bytes came back as {} bytes with the opcode {came}", bytes.len()),
                Err(error) => format!("{len} bytes do not come back: {error}"),
            };
            self.tell(Mark::Bad, "messages", words);
            return false;
        }
        self.tell(Mark::Good, "messages", "text and binary pass both ways");
        true
    }

    fn pings(&mut self, client: &mut Client, server: &StandIn, conn: ConnectionId) {
        let _ = server.handle.conn(conn).ping();
        // The frame behind the ping makes the client look at both.
        let mut pings = 0;
        let came = client.send(client::TEXT, b"x").and_then(|()| client.frame(&mut pings, PATIENCE));
        let pong = server.see(PATIENCE, |seen| matches!(seen, Seen::Pong).then_some(()));
        match (came, pings, pong) {
            (Ok(_), 1.., Some(())) => self.tell(Mark::Good, "ping", "the server's ping and its answer pass"),
            (Ok(_), 0, Some(())) => self.tell(
                Mark::Note,
                "ping",
                "the proxy answers the server's pings itself: a client that is gone is noticed late",
            ),
            _ => self.tell(
                Mark::Bad,
                "ping",
                "the server's ping is not answered: quiet connections will be closed (idle_timeout)",
            ),
        }
    }

    fn close_codes(&mut self, (mut one, conn): (Client, ConnectionId), server: &StandIn, nonce: &str) {
        let _ = server.handle.conn(conn).close(4001, "doctor");
        let from_server = loop {
            match one.frame(&mut 0, PATIENCE) {
                Ok((client::CLOSE, payload)) => {
                    break payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                }
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        let _ = one.send(client::CLOSE, &4001_u16.to_be_bytes());
        drop(one);
        let _ = server.see(PATIENCE, |seen| matches!(seen, Seen::Close { .. }).then_some(()));
        let Some((mut two, _)) = self.further(server, nonce, "close") else { return };
        let _ = two.send(client::CLOSE, &4002_u16.to_be_bytes());
        let from_client = server.see(PATIENCE, |seen| if let Seen::Close { code } = seen { Some(code) } else { None });
        if (from_server, from_client) == (Some(4001), Some(4002)) {
            return self.tell(Mark::Good, "close", "codes pass both ways");
        }
        let came = |code: Option<u16>| code.map_or_else(|| "nothing".to_owned(), |code| code.to_string());
        let words =
            format!("4001 of the server came as {}, 4002 of the client as {}", came(from_server), came(from_client));
        self.tell(Mark::Bad, "close", words);
    }

    /// A further connection, and what the server calls it.
    fn further(&mut self, server: &StandIn, nonce: &str, about: &'static str) -> Option<(Client, ConnectionId)> {
        server.forget();
        let client = self.again(nonce, about)?;
        let conn = server.see(PATIENCE, |seen| if let Seen::Open { conn, .. } = seen { Some(conn) } else { None });
        if conn.is_none() {
            self.tell(Mark::Bad, about, "a further connection was answered 101 by somebody else");
        }
        Some((client, conn?))
    }

    /// A further connection; that there is none is something to mend.
    fn again(&mut self, nonce: &str, about: &'static str) -> Option<Client> {
        let why = match self.open(nonce) {
            Ok((client, answer)) if answer.status == 101 => return Some(client),
            Ok((_, answer)) => format!("it was answered {}", answer.status),
            Err(error) => error.to_string(),
        };
        self.tell(Mark::Bad, about, format!("a further connection does not open: {why}"));
        None
    }

    /// A connection on which nothing is sent at all: the server's pings are what keeps a real one alive.
    fn silent(&mut self, nonce: &str) {
        let Some(mut client) = self.again(nonce, "silence") else { return };
        let start = Instant::now();
        let cut = loop {
            match client.frame(&mut 0, self.silence.saturating_sub(start.elapsed())) {
                Ok((client::CLOSE, _)) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != std::io::ErrorKind::TimedOut,
            }
        };
        let lived = if cut { start.elapsed() } else { self.silence };
        let (mark, words) = silence(lived, cut, self.policy.ping_interval_ms);
        self.tell(mark, "silence", words);
    }
}

/// What a refusal of the stand-in says of the doctor's own handshake, which was answered with this status.
fn refusal(seen: Seen, status: u16) -> Option<String> {
    match seen {
        // It refuses a credential for one reason alone: the number in the query did not come. With another status it was a client
        // of the real server.
        Seen::Refused { verdict: "auth_failed", .. } => (status == 401).then(|| {
            "a handshake came to the doctor's server without the doctor's query: the proxy has to keep the query"
                .to_owned()
        }),
        Seen::Refused { verdict, detail } => {
            Some(format!("the doctor's server saw it as {verdict}: {}", harmless(&detail, 200)))
        }
        _ => None,
    }
}

/// The last element of a header that may come in several lines.
fn last_of<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.all(name).last()?.rsplit(',').next().map(str::trim)
}

/// The address of an element of `Forwarded` (RFC 7239 section 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    let node = value.trim_matches('"');
    let ip = node.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(node, |(ip, _)| ip);
    ip.parse().ok().or_else(|| node.split(':').next()?.parse().ok())
}

/// Whether the socket of the server is the other end of the client's own: there is nothing in between.
fn is_same(peer: SocketAddr, own: SocketAddr) -> bool {
    (peer.ip().to_canonical(), peer.port()) == (own.ip().to_canonical(), own.port())
}

/// What a silent connection's life says: whether the server's pings come often enough.
fn silence(lived: Duration, cut: bool, ping_ms: u64) -> (Mark, String) {
    let (lived_s, needed) = (lived.as_secs(), Duration::from_millis(ping_ms.saturating_mul(2)));
    match (cut, ping_ms) {
        (true, 0) => (Mark::Bad, format!("a silent connection is cut after {lived_s} s, and the server never pings")),
        (true, ping) if lived > needed => (
            Mark::Good,
            format!(
                "a silent connection is cut after {lived_s} s; the server pings every {ping} ms, which prevents that"
            ),
        ),
        (true, ping) => (
            Mark::Bad,
            format!(
                "a silent connection is cut after {lived_s} s, and the server pings every {ping} ms: less often than half of that"
            ),
        ),
        (false, 0) => (
            Mark::Note,
            format!(
                "a silent connection lives for {lived_s} s; what ends it later ends quiet clients: the server never pings"
            ),
        ),
        (false, ping) if lived >= needed => {
            (Mark::Good, format!("a silent connection lives for {lived_s} s, and the server pings every {ping} ms"))
        }
        (false, ping) => {
            let longer = needed.as_millis().div_ceil(1000) + 1;
            let words = format!(
                "a silent connection lives for {lived_s} s, which says little: the server pings every {ping} ms; \
                 --silence {longer}s would tell"
            );
            (Mark::Note, words)
        }
    }
}

/// What was found, for people.
pub(super) fn text(target: &Target, found: &[Found], paint: Paint) -> String {
    let mut text = format!("The way from here to {target}\n");
    for one in found {
        let mark = match one.mark {
            Mark::Good => paint.green("good"),
            Mark::Note => paint.yellow("note"),
            Mark::Bad => paint.red("mend"),
        };
        let _ = writeln!(text, "  {mark} {:<12} {}", one.about, one.words);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_somebody_else_says_nothing() {
        let of = |verdict, status| refusal(Seen::Refused { verdict, detail: "why".into() }, status);
        assert!(of("auth_failed", 401).unwrap().ends_with("has to keep the query"));
        assert_eq!(of("auth_failed", 302), None);
        assert_eq!(of("upgrade_required", 426).unwrap(), "the doctor's server saw it as upgrade_required: why");
        assert_eq!(refusal(Seen::Pong, 401), None);
    }

    #[test]
    fn forwarded_elements_have_addresses() {
        let of = |element| forwarded_for(element).map(|ip| ip.to_string());
        assert_eq!(of("for=192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(of("proto=https; For=\"192.0.2.1:80\"").as_deref(), Some("192.0.2.1"));
        assert_eq!(of("for=\"[2001:db8::1]:80\";by=x").as_deref(), Some("2001:db8::1"));
        assert_eq!((of("for=unknown"), of("by=192.0.2.1"), of("")), (None, None, None));
    }

    #[test]
    fn silence_is_judged_beside_the_pings() {
        let of = |seconds, cut, ping| silence(Duration::from_secs(seconds), cut, ping).0;
        assert_eq!((of(60, true, 20_000), of(30, true, 20_000)), (Mark::Good, Mark::Bad));
        // A wait that is shorter than two pings has shown nothing.
        assert_eq!((of(41, false, 20_000), of(5, false, 20_000)), (Mark::Good, Mark::Note));
        assert_eq!((of(60, false, 0), of(60, true, 0)), (Mark::Note, Mark::Bad));
        assert!(silence(Duration::from_secs(5), false, 20_000).1.ends_with("--silence 41s would tell"));
    }
}
