//! Each row of the table against what the options do.

use serde_json::{Value, json};

use super::{OptionInfo, Options, Scope, Section, Shape, option_names, options_json};
use crate::config::Policy;
use crate::config_error::{ConfigError, ConfigErrorKind};
use crate::files::Disk;

/// Every value that is an option or part of one: `auth.tokens[].user`, `events.*.cost`; and all of them, `options`.
pub(super) fn paths() -> Vec<(String, &'static Shape)> {
    fn shape(path: String, of: &'static Shape, found: &mut Vec<(String, &'static Shape)>) {
        found.push((path.clone(), of));
        match of {
            Shape::List { item, .. } => shape(path + "[]", item, found),
            Shape::Map { item, .. } => shape(path + ".*", item, found),
            Shape::Section { section, .. } | Shape::Ways { section, .. } => members(&(path + "."), section, found),
            _ => {}
        }
    }
    fn members(before: &str, section: &'static Section, found: &mut Vec<(String, &'static Shape)>) {
        for option in section.options {
            shape(format!("{before}{}", option.name), &option.shape, found);
        }
    }
    let mut found = vec![("options".to_owned(), &super::WHOLE)];
    members("", Options::SECTION, &mut found);
    found
}

/// Options that hold one value, whatever it is in.
fn alone(path: &str, value: Value) -> Value {
    let mut options = json!({});
    match path.split('.').next() {
        Some("auth") if path.starts_with("auth.jwt") => options["auth"]["jwt"] = json!({"algorithms": ["ES256"]}),
        Some("auth") if path.starts_with("auth.tokens") => options["auth"]["tokens"] = json!([{"user": "alice"}]),
        Some("cluster") if path != "cluster" => options["cluster"] = json!({"url": "redis://127.0.0.1"}),
        Some("tls") if path != "tls" => options["tls"] = json!({"cert": "c", "key": "k"}),
        _ => {}
    }
    let mut place = &mut options;
    for part in path.replace('*', "say").split('.') {
        let (name, index) = part.split_once("[]").map_or((part, false), |(name, _)| (name, true));
        place = &mut place[name];
        if index {
            if !place.is_array() {
                *place = json!([null]);
            }
            place = &mut place[0];
        }
    }
    *place = value;
    options
}

fn stated(path: &str, value: Value) -> Result<(), ConfigError> {
    Options::from_value(&alone(path, value))?.check_ranges()
}

#[test]
fn numbers_are_accepted_up_to_their_bounds_and_not_beyond() {
    let refused = |path: &str, value: Value| {
        let name = path.replace("[]", "[0]").replace('*', "say");
        let error = stated(path, value.clone()).expect_err(path);
        assert_eq!((error.option, error.kind), (name, ConfigErrorKind::InvalidOption), "{value}");
        assert!(
            error.message.starts_with("must be ") && error.message.ends_with(&format!("got {value}")),
            "{}",
            error.message
        );
    };
    let mut numbers = 0;
    for (path, shape) in paths() {
        match shape {
            Shape::Whole { least, most } => {
                stated(&path, json!(least)).unwrap();
                stated(&path, json!(most)).unwrap();
                if *least > 0 {
                    refused(&path, json!(least - 1));
                }
                // Beyond what the type holds, no number is named where a credential may be.
                if !path.starts_with("auth") || *most < u64::from(u32::MAX) {
                    refused(&path, json!(most + 1));
                }
            }
            Shape::Codes(codes) => {
                codes.iter().for_each(|code| stated(&path, json!(code)).unwrap());
                refused(&path, json!(codes.iter().max().unwrap() + 1));
            }
            Shape::Number { least, most, .. } => {
                stated(&path, json!(least)).unwrap();
                stated(&path, json!(most)).unwrap();
                assert!(
                    stated(&path, json!(least - 1e-9)).is_err() && stated(&path, json!(most * 1.01)).is_err(),
                    "{path}"
                );
            }
            _ => continue,
        }
        numbers += 1;
    }
    assert!(numbers > 25, "{numbers}");
}

#[test]
fn choices_and_flags_are_what_the_table_says() {
    for (path, shape) in paths() {
        match shape {
            Shape::Choice(names) => {
                names.iter().for_each(|name| stated(&path, json!(name)).unwrap());
                assert!(stated(&path, json!(names.concat())).is_err(), "{path}");
                assert!(stated(&path, json!(names[0].to_uppercase() + "x")).is_err(), "{path}");
            }
            Shape::Flag => {
                stated(&path, json!(true)).unwrap();
                assert!(stated(&path, json!("true")).is_err() && stated(&path, json!(1)).is_err(), "{path}");
            }
            Shape::List { most, .. } if *most < 100_000 => {
                stated(&path, json!(vec!["x"; *most])).unwrap();
                let error = stated(&path, json!(vec!["x"; most + 1])).unwrap_err();
                assert_eq!(error.message, format!("must have at most {most} entries, got {}", most + 1));
            }
            Shape::Map { most, .. } => {
                let entries = |count: usize| (0..count).map(|n| (n.to_string(), json!({}))).collect::<Value>();
                stated(&path, entries(*most)).unwrap();
                assert_eq!(stated(&path, entries(most + 1)).unwrap_err().option, path);
            }
            _ => {}
        }
    }
}

/// Stating each default is the same as stating nothing.
#[test]
fn defaults_are_values_that_may_be_stated() {
    fn check(section: &'static Section) {
        for option in section.options {
            let default: Value = serde_json::from_str(&option.default_json()).unwrap();
            if option.is_nullable {
                assert!(option.absent().is_some() || option.is_required() || !default.is_null(), "{}", option.name);
            }
            if let Some(inner) = option.shape.section() {
                check(inner);
            }
        }
    }
    check(Options::SECTION);
    let nothing = format!("{:?}", Options::default());
    let mut all = Options::default();
    for option in Options::SECTION.options {
        all.set(option.name, &option.default_json()).unwrap();
    }
    assert_eq!(format!("{all:?}"), nothing);
    assert_eq!(format!("{:?}", Options::from_json("{}").unwrap()), nothing);
}

#[test]
fn null_is_accepted_where_the_table_says() {
    fn check(before: &str, section: &'static Section) {
        for option in section.options {
            let path = format!("{before}{}", option.name);
            assert_eq!(stated(&path, Value::Null).is_ok(), option.is_nullable, "{path}");
            match &option.shape {
                Shape::Section { section, .. } | Shape::Ways { section, .. } => check(&format!("{path}."), section),
                Shape::List { item: Shape::Section { section, .. }, .. } => check(&format!("{path}[]."), section),
                Shape::Map { item: Shape::Section { section, .. }, .. } => check(&format!("{path}.*."), section),
                _ => {}
            }
        }
    }
    check("", Options::SECTION);
}

#[test]
fn one_option_is_set_and_checked() {
    let mut options = Options::default();
    options.set("threads", "3").unwrap();
    options.set("events", r#"{"say": {"cost": 2}}"#).unwrap();
    options.set("auth", r#"{"tokens": [{"token": "good", "user": "alice"}]}"#).unwrap();
    options.set("rate_limit", "null").unwrap();
    assert_eq!((options.threads, options.events["say"].cost.to_string()), (3, "2".to_owned()));
    assert!(options.rate_limit.is_none() && options.auth.is_some());
    let before = format!("{options:?}");
    for (name, json, option, message) in [
        ("threads", "256", "threads", "must be a whole number from 0 to 255, got 256"),
        ("threads", "", "threads", "is not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("threads", "1, \"listen\": 2", "threads", "is not valid JSON: trailing characters at line 1 column 2"),
        ("rate_limit", r#"{"burst": 0}"#, "rate_limit.burst", "must be a number from 1 to 1000000000000, got 0"),
        ("rate_limit", r#"{"burst": 3, "burst": 4}"#, "rate_limit.burst", "is given twice"),
        ("rate_limit", r#"{"brst": 3}"#, "rate_limit.brst", "unknown option; did you mean `burst`?"),
        ("events", r#"{"say": {"cost": -1}}"#, "events.say.cost", "must be a number from 0 to 1000000, got -1"),
        (
            "auth",
            r#"{"jwt": {"leeway_s": 3601}}"#,
            "auth.jwt.leeway_s",
            "must be a whole number of seconds from 0 to 3600, got 3601",
        ),
        ("maxFragments", "1", "maxFragments", "unknown option; it is spelled `max_fragments` here"),
    ] {
        let error = options.set(name, json).unwrap_err();
        assert_eq!((error.option.as_str(), error.message.as_str()), (option, message));
        assert_eq!(format!("{options:?}"), before, "an error changes nothing");
    }
}

#[test]
fn options_stated_in_rust_are_checked_too() {
    let policy = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::from_json(r#"{"origins": ["https://a.example"], "auth": "none"}"#).unwrap();
        change(&mut options);
        Policy::new(options, &Disk).map_err(|error| error.option)
    };
    policy(&|_| ()).unwrap();
    let refused = |change: &dyn Fn(&mut Options)| policy(change).unwrap_err();
    assert_eq!(refused(&|options| options.threads = 256), "threads");
    assert_eq!(refused(&|options| options.drain_close_code = 1000), "drain_close_code");
    assert_eq!(refused(&|options| options.rate_limit.as_mut().unwrap().burst = f64::NAN), "rate_limit.burst");
    assert_eq!(refused(&|options| options.json_limits.max_keys = 0), "json_limits.max_keys");
    let event = super::EventOptions { cost: f64::INFINITY, ..Default::default() };
    assert_eq!(refused(&|options| _ = options.events.insert("a".into(), event.clone())), "events.a.cost");
}

#[test]
fn options_of_the_process_are_few_and_known() {
    let names = |accepted: &dyn Fn(&OptionInfo) -> bool| {
        let found = Options::SECTION.options.iter().filter(|option| accepted(option)).map(|option| option.name);
        found.collect::<Vec<_>>()
    };
    assert_eq!(names(&|option| option.scope().is_none()), Vec::<&str>::new(), "each says its scope");
    assert_eq!(
        names(&|option| !option.is_reloadable()),
        ["listen", "unix_mode", "reuse_port", "threads", "protocol", "proxy_protocol", "admin_listen", "cluster"]
    );
    let process = names(&|option| option.scope() == Some(Scope::Process));
    for name in ["listen", "threads", "tls", "max_connections", "max_inbox_bytes", "trusted_proxies", "paths", "routes"]
    {
        assert!(process.contains(&name), "{name}");
    }
    for name in ["origins", "auth", "hosts", "events", "max_message_bytes", "idle_timeout_ms", "on_violation"] {
        assert!(!process.contains(&name), "{name}");
    }
}

/// A noun phrase for somebody who sees it in an editor: no threat ids, no doubled default.
#[test]
fn documentation_is_for_users() {
    fn check(section: &'static Section) {
        for option in section.options {
            let doc = option.doc();
            let begins = doc.starts_with("The ") || doc.starts_with("Permission ") || doc.starts_with("Whether ");
            assert!(begins && doc.ends_with(['.', '`']) && !doc.contains("Default"), "{}: {doc}", option.name);
            assert!(!doc.contains("THREATS") && !doc.contains("  "), "{}: {doc}", option.name);
            let is_time = option.name.ends_with("_ms");
            assert!(!is_time || doc.contains("in milliseconds"), "{}: {doc}", option.name);
            if let Some(inner) = option.shape.section() {
                check(inner);
            }
        }
    }
    check(Options::SECTION);
}

#[test]
fn names_are_listed_once() {
    let names = option_names();
    for name in
        ["listen", "max_connections_per_ip", "per_second", "max_depth", "client_ca", "user_claim", "cost", "tokens"]
    {
        assert!(names.contains(&name), "{name}");
    }
    assert!(names.is_sorted() && names.len() > 60, "{}", names.len());
}

/// What other languages' types are written from. To write it again: `cargo run -q -p wsguard-proto --example options`.
#[test]
fn the_table_as_json_is_up_to_date() {
    let kept: Value = serde_json::from_str(include_str!("../../options.json")).unwrap();
    assert!(
        kept == options_json(),
        "core/proto/options.json is not the table; CONTRIBUTING says how to write it again"
    );
}

/// The README's table has one row for each option, in this order, with this default.
#[test]
fn the_readme_has_every_option_and_its_default() {
    let readme = include_str!("../../../../README.md");
    let table = readme.split("| option | default | meaning |\n|---|---|---|\n").nth(1).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|')).collect::<Vec<_>>();
    assert_eq!(rows.len(), Options::SECTION.options.len());
    for (row, option) in rows.iter().zip(Options::SECTION.options) {
        let start = format!("| `{}` | {} |", option.name, readme_default(option));
        assert!(row.starts_with(&start), "README's row should begin {start}, not {row}");
    }
}

fn readme_default(option: &OptionInfo) -> String {
    let default = option.default_json();
    match option.absent() {
        _ if option.is_required() => "**required**".to_owned(),
        Some(absent) => absent.to_owned(),
        None if default.starts_with(['"', '{']) && default != "{}" => format!("`{default}`"),
        None => default,
    }
}
