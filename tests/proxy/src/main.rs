//! `wsguard-proxy-test`: a real proxy in front of a host: addresses, timeouts, refusals and close codes through it. nginx
//! stands before every host, the others before the first.

mod addresses;
mod front;
mod lifetimes;
mod passage;
mod proxies;

use std::process::ExitCode;

use wsguard_test_support::suite::{self, Test};

use proxies::{Apache, Caddy, Haproxy, HaproxyTcp, Nginx, NginxStream, Varnish};

const TESTS: &[Test] = &[
    Test { name: "round-trips", threat: "S1", run: passage::round_trips::<Nginx> },
    Test { name: "refused-upgrades", threat: "H16", run: passage::refused_upgrades::<Nginx> },
    Test { name: "close-codes", threat: "P8", run: passage::close_codes::<Nginx> },
    Test { name: "client-addresses", threat: "H22", run: addresses::forwarded::<Nginx> },
    Test { name: "limits-see-clients", threat: "H22", run: addresses::limits::<Nginx> },
    Test { name: "proxy-protocol", threat: "H23", run: addresses::proxy_protocol::<NginxStream> },
    Test { name: "ping-against-read-timeout", threat: "S2", run: lifetimes::ping::<Nginx> },
    Test { name: "drain-behind-the-proxy", threat: "S10", run: lifetimes::drain::<Nginx> },
];

const OTHERS: &[Test] = &[
    Test { name: "haproxy-round-trips", threat: "S1", run: passage::round_trips::<Haproxy> },
    Test { name: "haproxy-refused-upgrades", threat: "H16", run: passage::refused_upgrades::<Haproxy> },
    Test { name: "haproxy-close-codes", threat: "P8", run: passage::close_codes::<Haproxy> },
    Test { name: "haproxy-client-addresses", threat: "H22", run: addresses::forwarded::<Haproxy> },
    Test { name: "haproxy-limits-see-clients", threat: "H22", run: addresses::limits::<Haproxy> },
    Test { name: "haproxy-proxy-protocol", threat: "H23", run: addresses::proxy_protocol::<HaproxyTcp> },
    Test { name: "haproxy-drain", threat: "S10", run: lifetimes::drain::<Haproxy> },
    Test { name: "apache-round-trips", threat: "S1", run: passage::round_trips::<Apache> },
    Test { name: "apache-refused-upgrades", threat: "H16", run: passage::refused_upgrades::<Apache> },
    Test { name: "apache-close-codes", threat: "P8", run: passage::close_codes::<Apache> },
    Test { name: "apache-client-addresses", threat: "H22", run: addresses::forwarded::<Apache> },
    Test { name: "apache-limits-see-clients", threat: "H22", run: addresses::limits::<Apache> },
    Test { name: "apache-drain", threat: "S10", run: lifetimes::drain::<Apache> },
    Test { name: "caddy-round-trips", threat: "S1", run: passage::round_trips::<Caddy> },
    Test { name: "caddy-refused-upgrades", threat: "H16", run: passage::refused_upgrades::<Caddy> },
    Test { name: "caddy-close-codes", threat: "P8", run: passage::close_codes::<Caddy> },
    Test { name: "caddy-client-addresses", threat: "H22", run: addresses::forwarded::<Caddy> },
    Test { name: "caddy-limits-see-clients", threat: "H22", run: addresses::limits::<Caddy> },
    Test { name: "caddy-drain", threat: "S10", run: lifetimes::drain::<Caddy> },
    Test { name: "varnish-round-trips", threat: "S1", run: passage::round_trips::<Varnish> },
    Test { name: "varnish-refused-upgrades", threat: "H16", run: passage::refused_upgrades::<Varnish> },
    Test { name: "varnish-close-codes", threat: "P8", run: passage::close_codes::<Varnish> },
    Test { name: "varnish-client-addresses", threat: "H22", run: addresses::forwarded::<Varnish> },
    Test { name: "varnish-limits-see-clients", threat: "H22", run: addresses::limits::<Varnish> },
    Test { name: "varnish-drain", threat: "S10", run: lifetimes::drain::<Varnish> },
    Test { name: "others-ping-against-timeout", threat: "S2", run: lifetimes::pings },
];

fn main() -> ExitCode {
    suite::main("wsguard-proxy-test", TESTS, OTHERS)
}
