//! `wsguard-proxy-test`: a real nginx in front of every host: addresses, timeouts, refusals and close codes through it.

mod addresses;
mod lifetimes;
mod nginx;
mod passage;

use std::process::ExitCode;

use wsguard_test_support::suite::{self, Test};

const TESTS: &[Test] = &[
    Test { name: "round-trips", threat: "S1", run: passage::round_trips },
    Test { name: "refused-upgrades", threat: "H16", run: passage::refused_upgrades },
    Test { name: "close-codes", threat: "P8", run: passage::close_codes },
    Test { name: "client-addresses", threat: "H22", run: addresses::forwarded },
    Test { name: "limits-see-clients", threat: "H22", run: addresses::limits },
    Test { name: "proxy-protocol", threat: "H23", run: addresses::proxy_protocol },
    Test { name: "ping-against-read-timeout", threat: "S2", run: lifetimes::ping },
    Test { name: "drain-behind-the-proxy", threat: "S10", run: lifetimes::drain },
];

fn main() -> ExitCode {
    suite::main("wsguard-proxy-test", TESTS)
}
