//! Decides which address a client has: the peer's own, or what a trusted proxy says of it.
//!
//! Also the key by which limits count addresses. It does not decide any limit, nor read the PROXY protocol
//! (`proxy_protocol`). `X-Real-IP` is never read: it has no trail of hops that could be checked.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

use ipnet::IpNet;

use crate::config_error::ConfigError;
use crate::syntax::decimal_u16;

/// More proxies in a row than anyone has; a longer trail is not believed.
const MAX_HOPS: usize = 64;

/// An address in brackets with a port has 47 bytes at most.
const MAX_NODE_BYTES: usize = 64;

const ACCEPTED: &str = "accepted: an address, a CIDR such as `10.0.0.0/8`, or `unix`";

/// The peers whose `Forwarded`, `X-Forwarded-For` and PROXY headers are believed: the option `trusted_proxies`.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    /// Of canonical addresses: none is IPv4-mapped.
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Reads the entries of the option `trusted_proxies`: CIDRs, addresses, and `unix` for the peers of a listener on
    /// a Unix socket. An empty list trusts nobody. The error names `trusted_proxies[i]`.
    ///
    /// Bits behind the prefix are ignored: `10.1.2.3/8` is `10.0.0.0/8`.
    pub fn new(entries: &[String]) -> Result<Self, ConfigError> {
        let mut trusted = Self { networks: Vec::new(), unix: false };
        for (index, entry) in entries.iter().enumerate() {
            if entry == "unix" {
                trusted.unix = true;
                continue;
            }
            let network = network(entry).map_err(|why| {
                ConfigError::invalid(format!("trusted_proxies[{index}]"), format!("{why}; {ACCEPTED}"))
            })?;
            trusted.networks.push(network);
        }
        Ok(trusted)
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether peers with addresses are among them.
    pub fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }

    /// Whether these are everybody: every address of either family that is routed on the internet. Then the list keeps
    /// nobody out.
    pub fn covers_everyone(&self) -> bool {
        // What nobody comes from across the internet, so that leaving it out makes no list a narrow one.
        let elsewhere = [
            ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"].as_slice(),
            &["169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"],
            &["::/3", "4000::/2", "8000::/1"],
        ];
        let elsewhere = elsewhere.concat().into_iter().filter_map(|network| network.parse().ok());
        let all: Vec<IpNet> = elsewhere.chain(self.networks.iter().copied()).collect();
        IpNet::aggregate(&all).iter().any(|network| network.prefix_len() == 0)
    }

    /// Whether what this peer says of others is believed; `None` is a peer on a Unix socket.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer.map(canonical) else { return self.unix };
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// The policy in words, for the log line at start.
    pub fn describe(&self) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        let networks = self.networks.iter().map(IpNet::to_string);
        networks.chain(self.unix.then(|| "unix".to_owned())).collect::<Vec<_>>().join(", ")
    }
}

/// The address of the client: the peer's own, unless the peer is trusted and forwarded headers say otherwise.
///
/// `forwarded` and `x_forwarded_for` are the values of all lines of these headers, in the order received. The trail is
/// walked from the right, the end that trusted proxies wrote: trusted hops are skipped, the first other one is the
/// client; if all are trusted, the leftmost is. A hop on the way that is not an address (`unknown`, `_hidden`,
/// garbage) ends the walk with the peer's address. So does a disagreement of the two headers: a proxy sets one and
/// passes the other on as the client sent it.
///
/// `None`: a peer on a Unix socket, of which nothing is known. Linear in the length of the headers.
pub fn client_address<'h>(
    trusted: &TrustedProxies,
    peer: Option<IpAddr>,
    forwarded: impl DoubleEndedIterator<Item = &'h [u8]>,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'h [u8]>,
) -> Option<IpAddr> {
    client(trusted, peer, forwarded, x_forwarded_for).ip
}

/// Who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that counts; `None`: a peer on a Unix socket, of which nothing is known.
    pub ip: Option<IpAddr>,
    /// Whether a trusted proxy says so; `false`: it is the peer's own address.
    pub is_forwarded: bool,
    /// What the operator ought to know of the peer.
    pub doubt: Option<Doubt>,
}

/// Why a peer's forwarded headers were not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The peer is not in `trusted_proxies`.
    Untrusted,
    /// The trail of a trusted proxy does not name a client: no `for`, `unknown`, `_hidden`, garbage.
    Unusable,
    /// `Forwarded` and `X-Forwarded-For` of a trusted proxy name different clients: it sets one and passes the other on
    /// as the client sent it.
    Disagreement,
}

/// As [`client_address`], and what it is known by.
pub fn client<'h>(
    trusted: &TrustedProxies,
    peer: Option<IpAddr>,
    forwarded: impl DoubleEndedIterator<Item = &'h [u8]>,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'h [u8]>,
) -> Client {
    let itself = |doubt| Client { ip: peer.map(canonical), is_forwarded: false, doubt };
    let (mut forwarded, mut x_forwarded_for) = (forwarded.peekable(), x_forwarded_for.peekable());
    if forwarded.peek().is_none() && x_forwarded_for.peek().is_none() {
        return itself(None);
    }
    if !trusted.trusts(peer) {
        return itself(Some(Doubt::Untrusted));
    }
    let x_forwarded_for = x_forwarded_for
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|hop| !hop.is_empty())
        .map(node);
    let forwarded = forwarded.rev().flat_map(|line| Elements { rest: Some(line) }).map(<[u8]>::trim_ascii);
    let forwarded = forwarded.filter(|element| !element.is_empty()).map(forwarded_for);
    let named = |client| Client { ip: Some(client), is_forwarded: true, doubt: None };
    match (trusted.walk(forwarded), trusted.walk(x_forwarded_for)) {
        (Trail::Client(client), Trail::Absent) | (Trail::Absent, Trail::Client(client)) => named(client),
        (Trail::Client(one), Trail::Client(other)) if one == other => named(one),
        (Trail::Client(_), Trail::Client(_)) => itself(Some(Doubt::Disagreement)),
        (Trail::Absent, Trail::Absent) => itself(None),
        _ => itself(Some(Doubt::Unusable)),
    }
}

/// The one form of an address: `::ffff:1.2.3.4` is `1.2.3.4`.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What limits per address count by: an IPv4 address whole, an IPv6 address by its /64, which one client has whole. An
/// IPv4 address that a NAT64 gateway translates (`64:ff9b::/96`, RFC 6052) is that address: behind one gateway is everybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressKey(IpAddr);

/// The prefixes of IPv6 by which limits count besides /64, because one customer may have that much of it.
pub const WIDER_PREFIXES: [u8; 2] = [56, 48];

impl AddressKey {
    /// The key of the network of `prefix` bits around it, at most 64; `None`: an IPv4 address, which is counted alone.
    pub fn wider(self, prefix: u8) -> Option<Self> {
        match self.0 {
            IpAddr::V6(address) => Some(Self(first_bits(address, prefix).into())),
            IpAddr::V4(_) => None,
        }
    }

    /// It, if it is an IPv4 address.
    pub(crate) fn ipv4(self) -> Option<IpAddr> {
        Some(self.0).filter(IpAddr::is_ipv4)
    }

    /// What it stands for: an IPv4 address, or an IPv6 /64.
    pub(crate) fn network(self) -> IpNet {
        let bits = if self.0.is_ipv4() { 32 } else { 64 };
        IpNet::new(self.0, bits).unwrap_or_else(|_| self.0.into())
    }

    /// The widest network that one customer may have: the address itself where it is IPv4.
    #[must_use]
    pub fn widest(self) -> Self {
        self.wider(48).unwrap_or(self)
    }
}

impl From<IpAddr> for AddressKey {
    fn from(ip: IpAddr) -> Self {
        Self(match canonical(ip) {
            IpAddr::V6(address) => match address.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, ..] => Ipv4Addr::from_bits(address.to_bits() as u32).into(),
                _ => first_bits(address, 64).into(),
            },
            address @ IpAddr::V4(_) => address,
        })
    }
}

fn first_bits(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let dropped = 128 - u32::from(bits.clamp(1, 128));
    Ipv6Addr::from_bits(address.to_bits() >> dropped << dropped)
}

/// What the lines of one header say.
enum Trail {
    /// There are no hops.
    Absent,
    Client(IpAddr),
    /// Too long, or with a hop on the way that is not an address.
    Unusable,
}

impl TrustedProxies {
    /// `hops` come from the right; `None` is one that is not an address.
    fn walk(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Trail {
        let mut trail = Trail::Absent;
        for (count, hop) in hops.enumerate() {
            let Some(hop) = hop.filter(|_| count < MAX_HOPS) else { return Trail::Unusable };
            trail = Trail::Client(hop);
            if !self.trusts(Some(hop)) {
                break;
            }
        }
        trail
    }
}

/// The elements of one `Forwarded` line, from the right, split at the commas outside of quoted strings.
///
/// From the right, because a client can send the left part: an opening quote there, read from the left, would swallow
/// the hops that proxies appended.
struct Elements<'h> {
    rest: Option<&'h [u8]>,
}

impl<'h> Iterator for Elements<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let line = self.rest.take()?;
        let mut quoted = false;
        let mut before = line;
        while let Some((byte, left)) = before.split_last() {
            match byte {
                b'"' => {
                    let backslashes = left.iter().rev().take_while(|byte| **byte == b'\\').count();
                    quoted ^= backslashes.is_multiple_of(2);
                }
                b',' if !quoted => {
                    self.rest = Some(left);
                    return line.get(before.len()..);
                }
                _ => {}
            }
            before = left;
        }
        Some(line)
    }
}

/// The address in the one `for` parameter of a `Forwarded` element (RFC 7239 section 4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = element;
    while !rest.is_empty() {
        let (name, value);
        (name, value, rest) = parameter(rest)?;
        if name.eq_ignore_ascii_case(b"for") && found.replace(node(&unescaped(value))?).is_some() {
            return None;
        }
    }
    found
}

/// The name of the first parameter, its value without quotes, and what follows its semicolon.
///
/// An address in brackets or with a port is understood without the quotes that it should have.
fn parameter(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, text) = text.split_at(text.iter().position(|byte| *byte == b'=')?);
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)) {
        return None;
    }
    let (value, rest) = if let [b'=', b'"', text @ ..] = text {
        let mut escaped = false;
        let end = text.iter().position(|byte| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        })?;
        (text.get(..end)?, text.get(end + 1..)?)
    } else {
        let (value, rest) = text.split_at(text.iter().position(|byte| *byte == b';').unwrap_or(text.len()));
        if value.iter().any(|byte| b"\"\\".contains(byte)) {
            return None;
        }
        (value.get(1..)?.trim_ascii_end(), rest)
    };
    match rest.trim_ascii_start() {
        [] => Some((name, value, &[])),
        [b';', rest @ ..] => Some((name, value, rest.trim_ascii_start())),
        _ => None,
    }
}

/// The content of a quoted string without its backslashes (RFC 9110 section 5.6.4).
fn unescaped(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.contains(&b'\\') {
        return Cow::Borrowed(content);
    }
    let mut escaped = false;
    let is_kept = |byte: &u8| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    };
    content.iter().copied().filter(is_kept).collect()
}

/// The address in `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5678`.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= MAX_NODE_BYTES)?;
    if let Ok(address) = text.parse() {
        return Some(canonical(address));
    }
    let (address, port): (IpAddr, _) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        let (address, port) = text.split_at(text.find(':')?);
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    let well_formed = port.is_empty() || decimal_u16(port.strip_prefix(':')?.as_bytes()).is_some();
    well_formed.then(|| canonical(address))
}

/// The canonical network that an address or a CIDR names.
pub(crate) fn network(entry: &str) -> Result<IpNet, &'static str> {
    let (address, prefix) = entry.split_once('/').map_or((entry, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| "not an address; names are not looked up")?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) => decimal_u16(digits.as_bytes())
            .and_then(|prefix| u8::try_from(prefix).ok())
            .filter(|prefix| *prefix <= width)
            .ok_or("the prefix must be a decimal of at most 32 (IPv4) or 128 (IPv6)")?,
        None => width,
    };
    // Peers are canonical before they are compared: a network of IPv4-mapped addresses must be one of IPv4.
    let (address, prefix) = match canonical(address) {
        mapped @ IpAddr::V4(_) if address.is_ipv6() => {
            (mapped, prefix.checked_sub(96).ok_or("a prefix under 96 cuts through `::ffff:0:0`; write it as IPv4")?)
        }
        address => (address, prefix),
    };
    IpNet::new(address, prefix).map(|network| network.trunc()).map_err(|_| "not a network")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROXIES: &[&str] = &["10.0.0.0/8", "192.168.1.1", "2001:db8:ffff::/48"];
    const PEER: &str = "10.0.0.1";

    fn trusted(entries: &[&str]) -> TrustedProxies {
        TrustedProxies::new(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client_of(peer: &str, forwarded: &[&str], x_forwarded_for: &[&str]) -> String {
        let (forwarded, x_forwarded_for) = (forwarded.iter(), x_forwarded_for.iter());
        let (forwarded, x_forwarded_for) = (forwarded.map(|l| l.as_bytes()), x_forwarded_for.map(|l| l.as_bytes()));
        client_address(&trusted(PROXIES), Some(ip(peer)), forwarded, x_forwarded_for).unwrap().to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let peers = ["203.0.113.9", "192.168.1.2", "11.0.0.1", "2001:db8::1", "::1", "::ffff:203.0.113.9"];
        for peer in peers {
            let own = canonical(ip(peer)).to_string();
            assert_eq!(client_of(peer, &[], &["1.2.3.4"]), own);
            assert_eq!(client_of(peer, &["for=1.2.3.4"], &[]), own);
            assert_eq!(client_of(peer, &["for=1.2.3.4"], &["1.2.3.4"]), own);
        }
        let nobody = trusted(&[]);
        let lines = || [&b"1.2.3.4"[..]].into_iter();
        assert_eq!(client_address(&nobody, Some(ip("127.0.0.1")), [].into_iter(), lines()), Some(ip("127.0.0.1")));
        assert_eq!(client_address(&nobody, None, [].into_iter(), lines()), None);
    }

    #[test]
    fn x_forwarded_for_is_walked_from_the_right() {
        let cases: &[(&[&str], &str)] = &[
            (&[], PEER),
            (&[""], PEER),
            (&[" , ,\t"], PEER),
            (&["1.2.3.4"], "1.2.3.4"),
            (&["  1.2.3.4\t"], "1.2.3.4"),
            // What the client sent stands left of what the proxy appended.
            (&["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6,1.2.3.4"], "1.2.3.4"),
            (&["10.9.9.9, 1.2.3.4"], "1.2.3.4"),
            (&["garbage, 1.2.3.4"], "1.2.3.4"),
            (&[", 1.2.3.4"], "1.2.3.4"),
            (&["\", 1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            (&["1.2.3.4", ""], "1.2.3.4"),
            // Trusted hops are skipped.
            (&["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
            (&["1.2.3.4, 192.168.1.1, 10.0.0.2, 2001:db8:ffff::7"], "1.2.3.4"),
            (&["1.2.3.4, 192.168.1.2, 10.0.0.2"], "192.168.1.2"),
            (&["1.2.3.4, ::ffff:10.0.0.2"], "1.2.3.4"),
            // All are trusted: the leftmost.
            (&["10.1.1.1, 10.2.2.2", "10.3.3.3"], "10.1.1.1"),
            // Ports and forms.
            (&["1.2.3.4:5678"], "1.2.3.4"),
            (&["[2001:db8::1]:5678"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:DB8:0::1"], "2001:db8::1"),
            (&["::ffff:1.2.3.4"], "1.2.3.4"),
            (&["[::ffff:102:304]:80"], "1.2.3.4"),
            (&["1.2.3.4, 10.0.0.2:80, [2001:db8:ffff::7]:443"], "1.2.3.4"),
            // Garbage on the way: the peer.
            (&["unknown"], PEER),
            (&["_hidden"], PEER),
            (&["1.2.3.4, unknown, 10.0.0.2"], PEER),
            (&["1.2.3.4, _hidden"], PEER),
            (&["1.2.3.4, garbage", "10.0.0.2"], PEER),
            (&["localhost"], PEER),
            (&["1.2.3"], PEER),
            (&["1.2.3.4.5"], PEER),
            (&["1.2.3.256"], PEER),
            (&["01.2.3.4"], PEER),
            (&["1.2.3.4:"], PEER),
            (&["1.2.3.4:x"], PEER),
            (&["1.2.3.4:65536"], PEER),
            (&["1.2.3.4:1:2"], PEER),
            (&["1.2.3.4 5.6.7.8"], PEER),
            (&["1.2.3.4;5.6.7.8"], PEER),
            (&["\"1.2.3.4\""], PEER),
            (&["1.2.3.4/32"], PEER),
            (&["[1.2.3.4]"], PEER),
            (&["[::1"], PEER),
            (&["[::1]x"], PEER),
            (&["[::1]]"], PEER),
            (&["[::1]:"], PEER),
            (&["::1]:80"], PEER),
            (&["fe80::1%eth0"], PEER),
            (&["for=1.2.3.4"], PEER),
            (&["1.2.3.4\0"], PEER),
            (&["\u{661}.2.3.4"], PEER),
        ];
        for (lines, expected) in cases {
            assert_eq!(client_of(PEER, &[], lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_walked_from_the_right() {
        let cases: &[(&[&str], &str)] = &[
            (&[], PEER),
            (&[""], PEER),
            (&[" ,, "], PEER),
            (&["for=1.2.3.4"], "1.2.3.4"),
            (&["For=1.2.3.4"], "1.2.3.4"),
            (&["FOR=1.2.3.4;proto=https;by=10.0.0.2"], "1.2.3.4"),
            (&["proto=https; for=1.2.3.4 ; host=\"a.example\""], "1.2.3.4"),
            (&["for=1.2.3.4;"], "1.2.3.4"),
            (&["for=\"1.2.3.4:5678\""], "1.2.3.4"),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=\"\\[2001:db8:\\:1\\]\""], "2001:db8::1"),
            (&["for=[2001:db8::1]:80"], "2001:db8::1"),
            (&["for=\"::ffff:1.2.3.4\""], "1.2.3.4"),
            // Several hops, several lines.
            (&["for=6.6.6.6, for=1.2.3.4"], "1.2.3.4"),
            (&["for=6.6.6.6,for=1.2.3.4,for=10.0.0.2"], "1.2.3.4"),
            (&["for=6.6.6.6", "for=1.2.3.4;proto=http, for=10.0.0.2"], "1.2.3.4"),
            (&["for=1.2.3.4", "for=10.0.0.2"], "1.2.3.4"),
            (&["for=10.1.1.1, for=10.2.2.2"], "10.1.1.1"),
            (&["for=1.2.3.4, "], "1.2.3.4"),
            // Commas and semicolons in quoted strings.
            (&["for=1.2.3.4;by=\"a,for=6.6.6.6\""], "1.2.3.4"),
            (&["for=1.2.3.4;by=\"a;for=6.6.6.6\""], "1.2.3.4"),
            (&["by=\"a,b;for=6.6.6.6\";for=1.2.3.4, for=10.0.0.2;secret=\",;\""], "1.2.3.4"),
            (&["for=1.2.3.4;by=\"\\\",for=6.6.6.6\""], "1.2.3.4"),
            (&["for=1.2.3.4;by=\"\\\\\", for=10.0.0.2"], "1.2.3.4"),
            (&["for=1.2.3.4;by=\"\\\\\\\",for=6.6.6.6\""], "1.2.3.4"),
            // A client's open quote does not swallow what a proxy appended.
            (&["for=\", for=1.2.3.4"], "1.2.3.4"),
            (&["for=6.6.6.6;x=\", for=1.2.3.4;by=10.0.0.2"], "1.2.3.4"),
            (&["for=6.6.6.6;x=\", for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["for=6.6.6.6;x=\"\\, for=\"[2001:db8::1]\";by=\"x\""], "2001:db8::1"),
            (&["for=\"6.6.6.6", "for=1.2.3.4"], "1.2.3.4"),
            (&["garbage, for=1.2.3.4"], "1.2.3.4"),
            // Garbage on the way: the peer.
            (&["for=unknown"], PEER),
            (&["for=_hidden"], PEER),
            (&["for=\"_hidden:80\""], PEER),
            (&["for=1.2.3.4, for=unknown, for=10.0.0.2"], PEER),
            (&["for=1.2.3.4, proto=https"], PEER),
            (&["for="], PEER),
            (&["for=\"\""], PEER),
            (&["for"], PEER),
            (&["1.2.3.4"], PEER),
            (&["=1.2.3.4"], PEER),
            (&["x for=1.2.3.4"], PEER),
            (&["for= 1.2.3.4"], PEER),
            (&["for=1.2.3.4;for=1.2.3.4"], PEER),
            (&["for=1.2.3.4;FOR=6.6.6.6"], PEER),
            (&["for=\"1.2.3.4"], PEER),
            (&["for=1.2.3.4\""], PEER),
            (&["for=\"1.2.3.4\"x"], PEER),
            (&["for=\"1.2.3.4\\\""], PEER),
            (&["for=\"1.2.3.4, for=10.0.0.2\""], PEER),
            (&["for=1.2.3.4 for=6.6.6.6"], PEER),
            (&["for=\\1.2.3.4"], PEER),
            (&["for =1.2.3.4"], PEER),
            (&["for=\"\\\\1.2.3.4\""], PEER),
            (&[";for=1.2.3.4"], PEER),
            (&["for=1.2.3.4;junk"], PEER),
            (&["for=\"[1.2.3.4]\""], PEER),
            (&["for=1.2.3.4\0"], PEER),
        ];
        for (lines, expected) in cases {
            assert_eq!(client_of(PEER, lines, &[]), *expected, "{lines:?}");
        }
    }

    #[test]
    fn both_headers_must_agree() {
        let cases = [
            ("for=1.2.3.4", "1.2.3.4", "1.2.3.4"),
            ("for=6.6.6.6, for=1.2.3.4", "9.9.9.9, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
            ("for=\"[::ffff:1.2.3.4]:80\"", "1.2.3.4", "1.2.3.4"),
            ("for=6.6.6.6", "1.2.3.4", PEER),
            ("for=1.2.3.4", "6.6.6.6", PEER),
            ("for=unknown", "1.2.3.4", PEER),
            ("for=1.2.3.4", "unknown", PEER),
            ("for=unknown", "unknown", PEER),
            ("garbage", "1.2.3.4", PEER),
            ("for=10.7.7.7", "1.2.3.4", PEER),
            // Without a hop it says nothing.
            ("", "1.2.3.4", "1.2.3.4"),
            ("for=1.2.3.4", " ", "1.2.3.4"),
            ("", "", PEER),
        ];
        for (forwarded, x_forwarded_for, expected) in cases {
            assert_eq!(client_of(PEER, &[forwarded], &[x_forwarded_for]), expected, "{forwarded} {x_forwarded_for}");
        }
    }

    #[test]
    fn an_endless_trail_is_not_believed() {
        let trail = |hops: usize| format!("1.2.3.4{}", ", 10.0.0.2".repeat(hops - 1));
        assert_eq!(client_of(PEER, &[], &[&trail(64)]), "1.2.3.4");
        assert_eq!(client_of(PEER, &[], &[&trail(65)]), PEER);
        assert_eq!(client_of(PEER, &[], &[&",".repeat(1 << 20)]), PEER);
        assert_eq!(client_of(PEER, &[&"\\".repeat(1 << 20)], &[]), PEER);
        assert_eq!(client_of(PEER, &[&"\\\"".repeat(1 << 20)], &[]), PEER);
    }

    #[test]
    fn unix_peers_are_trusted_when_listed() {
        let ask = |entries: &[&str], line: &'static str| {
            client_address(&trusted(entries), None, [].into_iter(), [line.as_bytes()].into_iter())
        };
        assert_eq!(ask(&["unix"], "6.6.6.6, 1.2.3.4"), Some(ip("1.2.3.4")));
        assert_eq!(ask(&["unix", "10.0.0.0/8"], "1.2.3.4, 10.0.0.2"), Some(ip("1.2.3.4")));
        assert_eq!(ask(&["unix"], "unknown"), None);
        assert_eq!(ask(&["10.0.0.0/8"], "1.2.3.4"), None);
        assert!(!trusted(&["unix"]).trusts(Some(ip("127.0.0.1"))));
    }

    #[test]
    fn entries_trust_what_they_say() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("10.1.2.3/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.1"], &["9.255.255.255", "11.0.0.0", "::1"]),
            ("127.0.0.1", &["127.0.0.1", "::ffff:127.0.0.1"], &["127.0.0.2", "::1", "::127.0.0.1"]),
            ("::1", &["::1"], &["127.0.0.1", "::2"]),
            ("::ffff:10.0.0.0/104", &["10.3.2.1", "::ffff:10.3.2.1"], &["11.0.0.0", "::1"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]),
            ("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::"]),
            ("0.0.0.0/0", &["1.2.3.4"], &["::1"]),
            ("::/0", &["::1"], &["1.2.3.4", "::ffff:1.2.3.4"]),
        ];
        for (entry, yes, no) in cases {
            let trusted = trusted(&[entry]);
            assert!(!trusted.is_empty());
            assert!(yes.iter().all(|peer| trusted.trusts(Some(ip(peer)))), "{entry}");
            assert!(!no.iter().any(|peer| trusted.trusts(Some(ip(peer)))), "{entry}");
            assert!(!trusted.trusts(None), "{entry}");
        }
        assert!(trusted(&[]).is_empty());
        assert!(!trusted(&["unix"]).is_empty());
    }

    #[test]
    fn entries_that_are_not_networks_are_errors() {
        let entries = [
            "",
            "*",
            "localhost",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/255.0.0.0",
            " 10.0.0.1",
            "[::1]",
            "::/129",
            "::ffff:0.0.0.0/95",
            "fe80::1%eth0",
            "10.0.0.1:80",
            "UNIX",
            "unix:/run/x",
        ];
        for entry in entries {
            let error = TrustedProxies::new(&["10.0.0.1".to_owned(), entry.to_owned()]).unwrap_err();
            assert_eq!(error.option, "trusted_proxies[1]", "{entry:?}");
            assert!(error.message.contains(ACCEPTED), "{entry:?}");
        }
    }

    #[test]
    fn the_policy_describes_itself() {
        assert_eq!(trusted(&[]).describe(), "none");
        assert_eq!(trusted(&["unix", "10.1.2.3/8", "0::1"]).describe(), "10.0.0.0/8, ::1/128, unix");
    }

    #[test]
    fn keys_of_nat64_are_the_embedded_address() {
        let key = |text: &str| AddressKey::from(ip(text));
        assert_eq!(key("64:ff9b::203.0.113.7"), key("203.0.113.7"));
        assert_ne!(key("64:ff9b::203.0.113.7"), key("64:ff9b::203.0.113.8"));
        assert_ne!(key("64:ff9b:1::203.0.113.7"), key("203.0.113.7"), "the local-use prefix is not translated");
    }

    #[test]
    fn wider_networks_hold_the_narrower_ones() {
        let key = |text: &str| AddressKey::from(ip(text));
        let one = key("2001:db8:1:1fff::1");
        assert_eq!(one.wider(56), key("2001:db8:1:1f00::9").wider(56));
        assert_ne!(one.wider(56), key("2001:db8:1:1e00::9").wider(56));
        assert_eq!(one.wider(48), key("2001:db8:1::9").wider(48));
        assert_ne!(one.wider(48), key("2001:db8:2::9").wider(48));
        assert_eq!((one.widest(), Some(one.widest())), (key("2001:db8:1::"), one.wider(48)));
        assert_eq!((key("10.0.0.1").wider(56), key("10.0.0.1").widest()), (None, key("10.0.0.1")));
    }

    #[test]
    fn lists_that_keep_nobody_out() {
        let everybody: &[&[&str]] = &[
            &["0.0.0.0/0"],
            &["::/0"],
            &["0.0.0.0/1", "128.0.0.0/1"],
            &["10.0.0.0/8", "::/1", "8000::/1"],
            &["2000::/3"],
            &[
                "1.0.0.0/8",
                "2.0.0.0/7",
                "4.0.0.0/6",
                "8.0.0.0/5",
                "16.0.0.0/4",
                "32.0.0.0/3",
                "64.0.0.0/2",
                "128.0.0.0/2",
                "192.0.0.0/3",
            ],
        ];
        for list in everybody {
            assert!(trusted(list).covers_everyone(), "{list:?}");
        }
        let narrow: &[&[&str]] = &[
            &[],
            &["unix"],
            &["0.0.0.0/1"],
            &["128.0.0.0/1", "64.0.0.0/2"],
            &["10.0.0.0/8", "fd00::/8"],
            &["2000::/4"],
        ];
        for list in narrow {
            assert!(!trusted(list).covers_everyone(), "{list:?}");
        }
    }

    #[test]
    fn a_doubt_says_why_headers_were_not_believed() {
        let found = |peer: &str, forwarded: &[&str], x_forwarded_for: &[&str]| {
            let (forwarded, x_forwarded_for) = (forwarded.iter(), x_forwarded_for.iter());
            let lines = (forwarded.map(|l| l.as_bytes()), x_forwarded_for.map(|l| l.as_bytes()));
            let found = client(&trusted(PROXIES), Some(ip(peer)), lines.0, lines.1);
            (found.is_forwarded, found.doubt)
        };
        assert_eq!(found(PEER, &[], &[]), (false, None));
        assert_eq!(found(PEER, &[], &[""]), (false, None));
        assert_eq!(found(PEER, &[], &["1.2.3.4"]), (true, None));
        assert_eq!(found(PEER, &["for=1.2.3.4"], &["1.2.3.4"]), (true, None));
        assert_eq!(found(PEER, &["proto=https;host=a"], &["1.2.3.4"]), (false, Some(Doubt::Unusable)));
        assert_eq!(found(PEER, &[], &["unknown"]), (false, Some(Doubt::Unusable)));
        assert_eq!(found(PEER, &["for=6.6.6.6"], &["1.2.3.4"]), (false, Some(Doubt::Disagreement)));
        assert_eq!(found("203.0.113.9", &[], &["1.2.3.4"]), (false, Some(Doubt::Untrusted)));
        assert_eq!(found("203.0.113.9", &[], &[]), (false, None));
    }

    #[test]
    fn keys_hold_ipv4_whole_and_ipv6_by_64() {
        let key = |text: &str| AddressKey::from(ip(text));
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
        assert_eq!(key("::ffff:1.2.3.4"), key("1.2.3.4"));
        assert_ne!(key("::ffff:1.2.3.4"), key("::1"));
        assert_ne!(key("0.0.0.0"), key("::"));
    }

    proptest! {
        #[test]
        fn no_header_panics(
            forwarded in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
            x_forwarded_for in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
        ) {
            let (forwarded, x_forwarded_for) = (forwarded.iter(), x_forwarded_for.iter());
            let (forwarded, x_forwarded_for) = (forwarded.map(Vec::as_slice), x_forwarded_for.map(Vec::as_slice));
            client_address(&trusted(PROXIES), Some(ip(PEER)), forwarded, x_forwarded_for);
        }

        #[test]
        fn what_a_client_sends_never_hides_its_address(
            sent in "([ -~]|for=|10\\.0\\.0\\.2|[\",;\\\\]){0,30}", quoted in any::<bool>(),
        ) {
            let hop = if quoted { "for=\"1.2.3.4:80\";by=\"x,\\\"\"" } else { "for=1.2.3.4" };
            let forwarded = format!("{sent}, {hop}, for=10.0.0.2");
            prop_assert_eq!(client_of(PEER, &[&forwarded], &[]), "1.2.3.4");
            let x_forwarded_for = format!("{sent}, 1.2.3.4, 10.0.0.2");
            prop_assert_eq!(client_of(PEER, &[], &[&x_forwarded_for]), "1.2.3.4");
        }
    }
}
