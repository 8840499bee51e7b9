#![expect(clippy::unwrap_used, reason = "a test")]
//! docs/OPERATING.md recommends what this suite runs, and explains every alert of docs/alerts.yml.

use std::collections::BTreeSet;

const GUIDE: &str = include_str!("../../../docs/OPERATING.md");
const ALERTS: &str = include_str!("../../../docs/alerts.yml");

/// How the guide marks a block, and the configurations that may have its lines.
const CONFIGURATIONS: [(&str, &[&str]); 5] = [
    ("nginx", &[include_str!("../conf/nginx.conf")]),
    ("haproxy", &[include_str!("../conf/haproxy.cfg"), include_str!("../conf/haproxy-tcp.cfg")]),
    ("apache", &[include_str!("../conf/apache.conf")]),
    ("caddy", &[include_str!("../conf/Caddyfile")]),
    ("vcl", &[include_str!("../conf/varnish.vcl")]),
];

/// The blocks of the guide that are marked so.
fn blocks(mark: &str) -> Vec<&'static str> {
    let open = format!("```{mark}\n");
    GUIDE.split(open.as_str()).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// The lines that say something, without their indentation.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The first line of `block` that `configuration` does not have behind the ones before it.
fn missing<'b>(block: &'b str, configuration: &str) -> Option<&'b str> {
    let mut rest = lines(configuration);
    lines(block).find(|line| !rest.any(|other| other == *line))
}

#[test]
fn every_line_that_the_guide_recommends_is_one_that_the_suite_runs() {
    for (mark, configurations) in CONFIGURATIONS {
        let blocks = blocks(mark);
        assert!(!blocks.is_empty(), "the guide has no lines for {mark}");
        for block in blocks {
            let missing: Vec<_> =
                configurations.iter().map_while(|configuration| missing(block, configuration)).collect();
            assert!(missing.len() < configurations.len(), "{mark}: no file of tests/proxy/conf has {missing:?}");
        }
    }
}

#[test]
fn the_guide_explains_every_alert_and_every_metric_in_one() {
    let names: BTreeSet<_> = lines(ALERTS).filter_map(|line| line.strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 8, "{names:?}");
    let explained: BTreeSet<_> =
        lines(GUIDE).filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    let explained: BTreeSet<_> = explained.into_iter().filter(|name| name.starts_with("Wsguard")).collect();
    assert_eq!(names, explained);
    let words = ALERTS.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    for metric in words.filter(|word| word.starts_with("wsguard_")) {
        assert!(GUIDE.contains(&format!("`{metric}")), "{metric} is not in the guide");
    }
}
