//! `include/wsguard.h` is what cbindgen makes of the sources. `WSG_UPDATE=1 cargo test -p wsguard-ffi --test header` writes
//! it anew, and with it `tests/abi/enums.txt`, from which a value may never go.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cbindgen::{Braces, Builder, Config, DocumentationStyle, EnumConfig, ExportConfig, Language, RenameRule, Style};
use wsguard::binding::Code;

/// In the order of the header.
const SOURCES: &[&str] = &[
    "pointers.rs",
    "status.rs",
    "names.rs",
    "error.rs",
    "log.rs",
    "events.rs",
    "options.rs",
    "running.rs",
    "server.rs",
    "adoption.rs",
    "policy.rs",
    "batches.rs",
    "signals.rs",
    "run.rs",
    "tickets.rs",
    "commands.rs",
    "frames.rs",
    "connections.rs",
    "reach.rs",
    "everywhere.rs",
    "inline.rs",
    "replies.rs",
    "json.rs",
];

/// The files that may hold unsafe code.
const UNSAFE: &[&str] = &["pointers.rs", "seen.rs", "replies.rs", "os.rs", "interrupt.rs"];

/// Rust's names and C's.
const NAMES: &[(&str, &str)] = &[
    ("Str", "wsg_str"),
    ("Status", "wsg_status"),
    ("ErrorHandle", "wsg_error"),
    ("OptionsHandle", "wsg_options"),
    ("ServerHandle", "wsg_server"),
    ("BatchHandle", "wsg_batch"),
    ("RepliesHandle", "wsg_replies"),
    ("EventKind", "wsg_event_kind"),
    ("MessageStatus", "wsg_message_status"),
    ("Field", "wsg_field"),
    ("Upgrade", "wsg_upgrade"),
    ("Open", "wsg_open"),
    ("Message", "wsg_message"),
    ("Close", "wsg_close"),
    ("Violation", "wsg_violation"),
    ("EventBody", "wsg_event_body"),
    ("Event", "wsg_event"),
    ("InlineMessage", "wsg_inline_message"),
    ("InlineFn", "wsg_inline_fn"),
    ("InlineOutcome", "wsg_inline_outcome"),
    ("Stats", "wsg_stats"),
    ("Handlers", "wsg_handlers"),
    ("Interest", "wsg_interest"),
    ("LogLevel", "wsg_log_level"),
    ("LogRecord", "wsg_log_record"),
    ("LogFn", "wsg_log_fn"),
    ("TextFn", "wsg_text_fn"),
    ("Ban", "wsg_ban"),
    ("BanFn", "wsg_ban_fn"),
    ("Accept", "wsg_accept"),
    ("Reject", "wsg_reject"),
    ("Pong", "wsg_pong"),
    ("Tls", "wsg_tls"),
    ("UpgradeGone", "wsg_upgrade_gone"),
    ("ConnFn", "wsg_conn_fn"),
    ("EverywhereFn", "wsg_everywhere_fn"),
    ("Identity", "wsg_identity"),
    ("Pipe", "wsg_pipe"),
    ("AdoptionEnded", "wsg_adoption_ended"),
    ("Adoption", "wsg_adoption"),
    ("Fault", "wsg_fault"),
    ("Opcode", "wsg_opcode"),
    ("StartFlag", "wsg_start"),
];

/// cbindgen prefixes a value with its whole enum's name; C programmers write less.
const VALUES: &[(&str, &str)] = &[
    ("WSG_STATUS_", "WSG_"),
    ("WSG_EVENT_KIND_", "WSG_EVENT_"),
    ("WSG_INLINE_OUTCOME_", "WSG_INLINE_"),
    ("WSG_LOG_LEVEL_", "WSG_LOG_"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A source with its `exports!` blocks as the plain functions they stand for: cbindgen expands no macros.
fn plain(source: &str) -> String {
    let mut plain = String::new();
    let mut exports = false;
    for line in source.lines() {
        match line {
            "#[cfg(test)]" => break,
            "exports! {" => exports = true,
            "}" if exports => exports = false,
            _ if exports => {
                let line = line.strip_prefix("    ").unwrap_or(line);
                if let Some(function) = line.strip_prefix("pub fn ") {
                    writeln!(plain, "#[unsafe(no_mangle)]\npub extern \"C\" fn {function}").unwrap();
                } else {
                    writeln!(plain, "{line}").unwrap();
                }
            }
            _ => writeln!(plain, "{line}").unwrap(),
        }
    }
    plain
}

/// The verdicts, from the core's own table.
fn verdicts() -> String {
    let mut text = String::from(
        "/**\n * Why a peer was refused or closed. The names, answers and numbers never change; new ones are added at the end.\n */\ntypedef enum wsg_verdict {\n",
    );
    for code in Code::ALL {
        let answer = match (code.http_status(), code.close_code()) {
            (0, 0) => "no answer".to_owned(),
            (http, 0) => format!("HTTP {http}"),
            (0, close) => format!("close code {close}"),
            (http, close) => format!("HTTP {http}, close code {close}"),
        };
        let name = code.name().to_uppercase();
        writeln!(text, "  /**\n   * `{}`: {answer}.\n   */\n  WSG_VERDICT_{name} = {},", code.name(), *code as u32)
            .unwrap();
    }
    text + "} wsg_verdict;\n"
}

fn generated() -> String {
    let directory = tempfile();
    let mut builder = Builder::new();
    for name in SOURCES {
        let source = std::fs::read_to_string(repository().join("ffi/src").join(name)).unwrap();
        let path = directory.join(name);
        std::fs::write(&path, plain(&source)).unwrap();
        builder = builder.with_src(path);
    }
    let config = Config {
        language: Language::C,
        cpp_compat: true,
        style: Style::Type,
        braces: Braces::SameLine,
        documentation_style: DocumentationStyle::Doxy,
        header: Some(include_str!("preamble.h").trim_end().to_owned()),
        include_guard: Some("WSGUARD_H".to_owned()),
        usize_is_size_t: true,
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        after_includes: Some(format!("\n{}", verdicts())),
        line_length: 120,
        enumeration: EnumConfig {
            rename_variants: RenameRule::ScreamingSnakeCase,
            prefix_with_name: true,
            ..EnumConfig::default()
        },
        export: ExportConfig {
            include: ["InlineOutcome", "Interest", "Fault", "Opcode", "StartFlag"].map(str::to_owned).to_vec(),
            rename: NAMES.iter().map(|(rust, c)| ((*rust).to_owned(), (*c).to_owned())).collect(),
            ..ExportConfig::default()
        },
        ..Config::default()
    };
    let mut header = Vec::new();
    builder.with_config(config).generate().unwrap().write(&mut header);
    std::fs::remove_dir_all(directory).unwrap();
    let mut header = String::from_utf8(header).unwrap();
    for (long, short) in VALUES {
        header = header.replace(long, short);
    }
    on_one_line(&header)
}

/// Comments of one line on one line.
fn on_one_line(header: &str) -> String {
    let lines: Vec<_> = header.lines().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < lines.len() {
        match lines[at..] {
            [start, text, end, ..] if start.trim() == "/**" && end.trim() == "*/" => {
                let (indent, text) = (&start[..start.len() - 3], text.trim().trim_start_matches("* "));
                writeln!(out, "{indent}/** {text} */").unwrap();
                at += 3;
            }
            _ => {
                writeln!(out, "{}", lines[at]).unwrap();
                at += 1;
            }
        }
    }
    out
}

fn tempfile() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("wsguard-header-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Every value of every enum of the header.
fn values(header: &str) -> BTreeMap<String, i64> {
    let value = |line: &str| {
        let (name, number) = line.trim().trim_end_matches(',').split_once(" = ")?;
        (line.starts_with("  WSG_")).then(|| (name.to_owned(), number.parse().unwrap()))
    };
    header.lines().filter_map(value).collect()
}

fn listed(values: &BTreeMap<String, i64>) -> String {
    let mut lines: Vec<_> = values.iter().map(|(name, number)| format!("{name} {number}\n")).collect();
    lines.sort();
    lines.concat()
}

#[test]
fn the_header_is_what_the_sources_say() {
    let (header, path) = (generated(), repository().join("include/wsguard.h"));
    let list = repository().join("tests/abi/enums.txt");
    if std::env::var_os("WSG_UPDATE").is_some() {
        std::fs::write(&list, listed(&values(&header))).unwrap();
        std::fs::write(&path, &header).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == header, "include/wsguard.h has drifted: WSG_UPDATE=1 cargo test -p wsguard-ffi --test header");
    let promised = std::fs::read_to_string(list).unwrap();
    assert_eq!(promised, listed(&values(&header)), "the values of enums are part of the ABI");
}

#[test]
fn only_the_boundary_exports() {
    for entry in std::fs::read_dir(repository().join("ffi/src")).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let exports = source.contains("no_mangle") && !path.ends_with("boundary.rs");
        assert!(!exports, "{} exports beside the boundary", path.display());
        let is_allowed = UNSAFE.iter().any(|name| path.ends_with(name));
        let unsafe_blocks = source.contains("unsafe {") && !is_allowed;
        assert!(!unsafe_blocks, "{} holds unsafe code", path.display());
    }
}
