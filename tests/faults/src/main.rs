//! `wsguard-faults`: what goes wrong around a server — descriptors, resets, dead peers, floods, signals, clocks — done to
//! every host, with honest clients beside it that must notice nothing.

mod application;
mod blocked;
mod clock;
mod descriptors;
mod drain;
mod logs;
mod memory;
mod peers;
mod policy;
mod reload;
mod slow;
mod tls;

use std::process::ExitCode;

use wsguard_test_support::suite::{self, Test};

const TESTS: &[Test] = &[
    Test { name: "out-of-descriptors", threat: "S3", run: descriptors::exhaustion },
    Test { name: "churn", threat: "R10", run: descriptors::churn },
    Test { name: "refused-are-bounded", threat: "R10", run: descriptors::refused_are_bounded },
    Test { name: "reset-in-mid-frame", threat: "P10", run: peers::reset_in_mid_frame },
    Test { name: "half-open-peer", threat: "S2", run: peers::half_open },
    Test { name: "never-reading-peer", threat: "S1", run: peers::never_reading },
    Test { name: "slowloris-plain", threat: "H10", run: slow::plain },
    Test { name: "slowloris-tls", threat: "H10", run: slow::tls },
    Test { name: "ten-thousand-connections", threat: "R5", run: memory::ten_thousand },
    Test { name: "two-thousand-over-tls", threat: "R5", run: memory::two_thousand_tls },
    Test { name: "sigterm-under-load", threat: "S10", run: drain::sigterm_under_load },
    Test { name: "drain-with-jitter", threat: "S10", run: drain::jitter },
    Test { name: "drain-with-an-idle-shard", threat: "S10", run: drain::idle_shard },
    Test { name: "application-blocked", threat: "S4", run: blocked::application_blocked },
    Test { name: "handler-throws", threat: "S5", run: application::handler_throws },
    Test { name: "disconnect-user", threat: "A7", run: application::disconnect_user },
    Test { name: "reload-under-load", threat: "A7", run: reload::under_load },
    Test { name: "tls-garbage", threat: "T1", run: tls::garbage },
    Test { name: "tls-reload-under-load", threat: "T2", run: tls::reload_under_load },
    Test { name: "log-flood", threat: "S6", run: logs::flood },
    Test { name: "log-unwritable", threat: "S6", run: logs::unwritable },
    Test { name: "log-last-words", threat: "S6", run: logs::last_words },
    Test { name: "clock-jump", threat: "A3", run: clock::jump },
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some(peers::CLIENT) => peers::client_process(&words.next().unwrap_or_default()),
        _ => suite::main("wsguard-faults", TESTS, &[]),
    }
}
