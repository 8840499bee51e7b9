//! The text, read back by a parser that shares nothing with what writes it.
#![expect(clippy::float_cmp, reason = "numbers are written exactly")]

use proptest::prelude::*;

use super::durations::BOUNDS;
use super::test_parser::{parse, unescaped};
use super::writer::{Number, Writer};
use super::*;
use crate::verdict::Code;

fn snapshot() -> Snapshot {
    let mut now = Snapshot {
        connections: 3,
        messages_received: 4,
        messages_sent: 5,
        received_bytes: 6,
        sent_bytes: u64::MAX,
        messages_received_compressed: 14,
        inflated_bytes: 15,
        messages_sent_compressed: 16,
        messages_left_plain: 17,
        compression_saved_bytes: 18,
        verdicts: (0..Code::ALL.len() as u64).collect(),
        inbox_bytes: 7,
        inbox_age: Duration::from_millis(1500),
        outbox_bytes: 8,
        messages_delayed: 9,
        auth_pending: 10,
        policy: PolicyFacts { generation: 11, reload_failures: 12, bans: 13 },
        cluster: Some(ClusterFacts { is_up: true, lag: Duration::from_millis(250), dropped: 19 }),
        certificate_expires_at: Some(4_102_444_800),
        version: "1.2.3",
        ..Snapshot::default()
    };
    for millis in [0, 1, 2, 5000, 5001, 60_000] {
        now.handshakes.buckets[bucket_of(Duration::from_millis(millis))] += 1;
        now.handshakes.sum_micros += millis * 1000;
    }
    now
}

fn value(text: &str, sample: &str) -> f64 {
    let families = parse(text).unwrap();
    let mut found = families.values().flat_map(|family| &family.samples).filter(|(name, _)| name == sample);
    found.next().unwrap_or_else(|| panic!("no {sample}")).1
}

/// The names that the documentation promises, with what each is.
#[test]
fn every_metric_is_there() {
    let text = snapshot().text();
    let families = parse(&text).unwrap();
    for (name, kind, sample, expected) in [
        ("wsguard_connections", "gauge", "wsguard_connections", 3.0),
        ("wsguard_handshakes", "counter", "wsguard_handshakes_total", 6.0),
        ("wsguard_messages_received", "counter", "wsguard_messages_received_total", 4.0),
        ("wsguard_messages_sent", "counter", "wsguard_messages_sent_total", 5.0),
        ("wsguard_received_bytes", "counter", "wsguard_received_bytes_total", 6.0),
        ("wsguard_sent_bytes", "counter", "wsguard_sent_bytes_total", u64::MAX as f64),
        ("wsguard_messages_received_compressed", "counter", "wsguard_messages_received_compressed_total", 14.0),
        ("wsguard_inflated_bytes", "counter", "wsguard_inflated_bytes_total", 15.0),
        ("wsguard_messages_sent_compressed", "counter", "wsguard_messages_sent_compressed_total", 16.0),
        ("wsguard_messages_left_plain", "counter", "wsguard_messages_left_plain_total", 17.0),
        ("wsguard_compression_saved_bytes", "counter", "wsguard_compression_saved_bytes_total", 18.0),
        ("wsguard_verdicts", "counter", "wsguard_verdicts_total{code=\"method_not_allowed\"}", 1.0),
        ("wsguard_inbox_bytes", "gauge", "wsguard_inbox_bytes", 7.0),
        ("wsguard_inbox_age_seconds", "gauge", "wsguard_inbox_age_seconds", 1.5),
        ("wsguard_outbox_bytes", "gauge", "wsguard_outbox_bytes", 8.0),
        ("wsguard_messages_delayed", "gauge", "wsguard_messages_delayed", 9.0),
        ("wsguard_auth_pending", "gauge", "wsguard_auth_pending", 10.0),
        ("wsguard_handshake_duration_seconds", "histogram", "wsguard_handshake_duration_seconds_sum", 70.004),
        ("wsguard_auth_duration_seconds", "histogram", "wsguard_auth_duration_seconds_count", 0.0),
        ("wsguard_policy_generation", "gauge", "wsguard_policy_generation", 11.0),
        ("wsguard_reload_failures", "counter", "wsguard_reload_failures_total", 12.0),
        ("wsguard_tls_certificate_expiry_seconds", "gauge", "wsguard_tls_certificate_expiry_seconds", 4_102_444_800.0),
        ("wsguard_bans", "gauge", "wsguard_bans", 13.0),
        ("wsguard_cluster_up", "gauge", "wsguard_cluster_up", 1.0),
        ("wsguard_cluster_lag_seconds", "gauge", "wsguard_cluster_lag_seconds", 0.25),
        ("wsguard_cluster_dropped", "counter", "wsguard_cluster_dropped_total", 19.0),
        ("wsguard_build", "info", "wsguard_build_info{version=\"1.2.3\"}", 1.0),
    ] {
        assert_eq!(families[name].kind, kind, "{name}");
        assert_eq!(value(&text, sample), expected, "{sample}");
    }
    for (name, family) in &families {
        assert!(family.help.as_ref().is_some_and(|help| help.ends_with('.') && help.len() < 160), "{name}");
        for unit in ["bytes", "seconds"] {
            assert_eq!(family.unit.as_deref() == Some(unit), name.ends_with(unit), "{name}");
        }
    }
}

#[test]
fn every_code_is_a_series() {
    let text = snapshot().text();
    for (index, code) in Code::ALL.iter().enumerate() {
        assert_eq!(value(&text, &format!("wsguard_verdicts_total{{code=\"{code}\"}}")), index as f64);
    }
}

#[test]
fn a_server_without_tls_has_no_certificate() {
    let text = Snapshot { certificate_expires_at: None, ..snapshot() }.text();
    assert!(parse(&text).unwrap()["wsguard_tls_certificate_expiry_seconds"].samples.is_empty());
}

#[test]
fn a_server_that_is_alone_has_no_numbers_of_a_cluster() {
    let text = Snapshot { cluster: None, ..snapshot() }.text();
    let families = parse(&text).unwrap();
    for name in ["wsguard_cluster_up", "wsguard_cluster_lag_seconds", "wsguard_cluster_dropped"] {
        assert!(families[name].samples.is_empty(), "{name}");
    }
}

/// A duration on a bound is below it, and what is longer than all is only in the last bucket.
#[test]
fn durations_are_in_their_buckets() {
    let text = snapshot().text();
    for (le, count) in [("0.0005", 1.0), ("0.001", 2.0), ("0.0025", 3.0), ("2.5", 3.0), ("5.0", 4.0), ("+Inf", 6.0)] {
        assert_eq!(value(&text, &format!("wsguard_handshake_duration_seconds_bucket{{le=\"{le}\"}}")), count, "{le}");
    }
    for (index, (bound, text)) in BOUNDS.iter().enumerate() {
        assert_eq!(bound.as_secs_f64(), text.parse::<f64>().unwrap());
        assert_eq!(bucket_of(*bound), index);
        assert_eq!(bucket_of(*bound + Duration::from_nanos(1)), index + 1);
    }
    assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
}

/// The quickest of many: the machine may be busy.
#[test]
fn a_text_is_made_in_a_moment() {
    let now = snapshot();
    let quickest = (0..50).map(|_| {
        let began = std::time::Instant::now();
        assert!(now.text().len() > 4000);
        began.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_millis(5), "{quickest:?}");
}

/// A strict parser refuses what the specification does.
#[test]
fn the_parser_is_strict() {
    let good = snapshot().text();
    for (from, to) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF\n\n"),
        ("# UNIT wsguard_inbox_bytes bytes", "# UNIT wsguard_inbox_bytes seconds"),
        ("# TYPE wsguard_bans gauge\n", ""),
        ("# TYPE wsguard_bans gauge\n", "# TYPE wsguard_bans gauge\n# TYPE wsguard_bans gauge\n"),
        ("wsguard_handshakes_total ", "wsguard_handshakes "),
        ("wsguard_bans 13", "wsguard_bans 13\nwsguard_bans 13"),
        ("wsguard_bans 13", "wsguard_bans  13"),
        ("wsguard_bans 13", "wsguard_bans 0x13"),
        ("le=\"1.0\"", "le=\"1\""),
        ("le=\"+Inf\"} 6", "le=\"+Inf\"} 7"),
        ("_count 6", "_count 5"),
        ("{code=\"bad_frame\"}", "{code=\"bad\"frame\"}"),
        ("{code=\"bad_frame\"}", "{code=\"bad_frame\",code=\"x\"}"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(bad != good && parse(&bad).is_err(), "{from:?} as {to:?}");
    }
}

proptest! {
    #[test]
    fn any_numbers_make_a_valid_text(
        numbers in prop::collection::vec(any::<u64>(), 10),
        buckets in prop::collection::vec(0..u64::MAX / 32, BUCKETS),
        age in any::<u64>(),
        version in "[ -~]{0,12}",
    ) {
        let mut now = Snapshot { connections: numbers[0], sent_bytes: numbers[1], ..snapshot() };
        now.inbox_age = Duration::from_nanos(age);
        now.auths = Durations { buckets: buckets.try_into().unwrap(), sum_micros: numbers[2] };
        now.version = Box::leak(version.into_boxed_str());
        let text = now.text();
        let read = parse(&text).map_err(TestCaseError::fail)?;
        prop_assert_eq!(read["wsguard_connections"].samples[0].1, numbers[0] as f64);
    }

    #[test]
    fn what_is_escaped_comes_back(text in any::<String>()) {
        let mut writer = Writer::default();
        writer.escaped(&text);
        let escaped = writer.text();
        prop_assert!(!escaped.contains('\n'));
        prop_assert!(text.contains('\r') || unescaped(escaped) == Ok(text.clone()));
    }

    #[test]
    fn numbers_are_exact(micros in any::<u64>()) {
        let mut text = String::new();
        Number::Micros(micros).write(&mut text);
        let (seconds, rest) = text.split_once('.').unwrap();
        prop_assert!(rest == "0" || !rest.ends_with('0'));
        prop_assert_eq!(format!("{seconds}{rest:0<6}").parse::<u64>().unwrap(), micros);
    }
}
