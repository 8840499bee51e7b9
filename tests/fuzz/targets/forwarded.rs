//! The address of a client: nothing it sends beats what a trusted proxy appended, and nobody else is believed.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::setting;
use wsguard_proto::client_ip::{AddressKey, TrustedProxies, canonical, client_address};

static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let entries = ["10.0.0.0/8", "2001:db8:ffff::/48", "unix"].map(str::to_owned);
    TrustedProxies::new(&entries).unwrap()
});

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

fn address(peer: Option<IpAddr>, forwarded: &[&[u8]], x_forwarded_for: &[&[u8]]) -> Option<IpAddr> {
    client_address(&TRUSTED, peer, forwarded.iter().copied(), x_forwarded_for.iter().copied())
}

/// Walks `X-Forwarded-For` from the right: `Err` where the peer's own address must count.
fn naive_walk(lines: &[&[u8]]) -> Result<Option<IpAddr>, ()> {
    let text = lines.join(&b","[..]);
    let hops: Vec<&[u8]> =
        text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).collect();
    let mut found = None;
    for (count, hop) in hops.iter().rev().enumerate() {
        let hop = std::str::from_utf8(hop).map_err(drop)?;
        let address: Option<IpAddr> = hop.parse().ok();
        let port = |port: &str| !port.is_empty() && port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
        let with_port = || match hop.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let fits = rest.is_empty() || rest.strip_prefix(':').is_some_and(port);
                address.parse().ok().filter(|address: &IpAddr| address.is_ipv6() && fits)
            }
            None => {
                let (address, rest) = hop.split_once(':')?;
                address.parse().ok().filter(|address: &IpAddr| address.is_ipv4() && port(rest))
            }
        };
        let address = address.or_else(with_port).filter(|_| count < 64 && hop.len() <= 64).ok_or(())?;
        let address = canonical(address);
        found = Some(address);
        if !TRUSTED.trusts(Some(address)) {
            break;
        }
    }
    Ok(found)
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    // No header value holds a line feed: it cuts the input into lines.
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    let odd: Vec<&[u8]> = lines.iter().copied().skip(1).step_by(2).collect();
    let even: Vec<&[u8]> = lines.iter().copied().step_by(2).collect();
    let none: &[&[u8]] = &[];
    let (forwarded, x_forwarded_for) = match set % 3 {
        0 => (none, &lines[..]),
        1 => (&lines[..], none),
        _ => (&even[..], &odd[..]),
    };

    // A stranger is who it is, whatever it says.
    assert_eq!(address(Some(STRANGER), forwarded, x_forwarded_for), Some(STRANGER));

    // A trusted peer: its own address or one that is there, in its one form.
    for peer in [Some(PROXY), None] {
        let found = address(peer, forwarded, x_forwarded_for);
        assert_eq!(found.map(canonical), found);
        assert_eq!(found.map(AddressKey::from), found.map(canonical).map(AddressKey::from));
        if forwarded.is_empty() {
            assert_eq!(found, naive_walk(x_forwarded_for).map_or(peer, |client| client.or(peer)));
        }
    }

    // What the proxy appends counts, whatever stands before it: in the same line or in one of its own.
    let client = CLIENT.to_string();
    let mut own_line = x_forwarded_for.to_vec();
    own_line.push(client.as_bytes());
    assert_eq!(address(Some(PROXY), none, &own_line), Some(CLIENT));
    if let Some(before) = x_forwarded_for.last() {
        let line = [before, &b", "[..], client.as_bytes(), b", 10.0.0.2"].concat();
        own_line.truncate(x_forwarded_for.len() - 1);
        own_line.push(&line);
        assert_eq!(address(Some(PROXY), none, &own_line), Some(CLIENT));
    }
    let element = format!("for={client};proto=https");
    let quoted = format!("proto=\"a,\\\"b\";for=\"{client}:80\"");
    for element in [element, quoted] {
        let mut own_line = forwarded.to_vec();
        own_line.push(element.as_bytes());
        assert_eq!(address(Some(PROXY), &own_line, none), Some(CLIENT));
        if let Some(before) = forwarded.last() {
            let line = [before, &b", "[..], element.as_bytes()].concat();
            own_line.truncate(forwarded.len() - 1);
            own_line.push(&line);
            assert_eq!(address(Some(PROXY), &own_line, none), Some(CLIENT));
        }
    }
    // Both headers: never an address that only one of them tells, if the other tells another.
    let both = address(Some(PROXY), forwarded, &[client.as_bytes()]);
    assert!(both == Some(CLIENT) || both == Some(PROXY));
});
