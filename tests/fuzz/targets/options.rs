//! No options make the server panic at start, and every error names an option.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wsguard_proto::config::{Options, PolicySet};
use wsguard_proto::config_error::{ConfigError, ConfigErrorKind};
use wsguard_proto::files::NoFiles;
use wsguard_proto::options::option_names;

/// The options, also those of a section, and the object as a whole.
static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| [option_names(), vec!["options"]].concat());

fn check_error(error: &ConfigError) {
    assert!(!error.message.is_empty());
    let first = error.option.split(['.', '[']).next().unwrap_or_default();
    if error.kind != ConfigErrorKind::UnknownOption {
        assert!(NAMES.contains(&first), "{error:?}");
    }
}

fuzz_target!(|text: &str| {
    let options = match Options::from_json(text) {
        Ok(options) => options,
        Err(error) => return check_error(&error),
    };
    let value: serde_json::Value = serde_json::from_str(text).expect("it was read as JSON");
    assert!(value.is_object(), "options in an array");
    Options::from_value(&value).expect("both readers agree");
    match PolicySet::compile(options, &NoFiles) {
        Ok(policy) => {
            let line = policy.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        Err(error) => check_error(&error),
    }
});
