//! Scenario files: what is in them, and the cases they expand to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};
use wsguard_test_support::outcome::{Failure, Outcome, fail};

use crate::step::Step;
use crate::template::{plain, substitute, unroll};

/// Names that get their value when the host runs.
pub(crate) const LATER: &[&str] = &["addr", "port", "dir", "certs", "transport"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    #[serde(default)]
    vars: Table,
    scenario: Vec<Scenario>,
}

/// One `[[scenario]]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    threats: Vec<String>,
    /// For the reader, and checked to look like a section.
    rfc: Option<String>,
    /// A table, or the name of a variable that is one.
    #[serde(default = "no_options")]
    options: Value,
    #[serde(default)]
    app: Table,
    /// Files written into `{{dir}}` before the host starts: contents, or `@name` for a file of the certificate directory.
    #[serde(default)]
    files: Table,
    /// The start must be refused; a subset of the error line.
    start_error: Option<Value>,
    #[serde(default)]
    steps: Vec<Value>,
    #[serde(default)]
    case: Vec<Table>,
    /// One case for each value: `each = { origin = ["a", "b"] }`.
    each: Option<Table>,
    transport: Option<Vec<String>>,
    transport_reason: Option<String>,
    skip: Option<Skip>,
    /// Runs with no other scenario beside it: it measures time or memory.
    #[serde(default)]
    alone: bool,
    /// Violations that may come without being named by a step.
    #[serde(default)]
    tolerate: Vec<String>,
    /// The host may panic: its application was told to.
    #[serde(default)]
    panics: bool,
    /// The exit code at the end (0), or `-1` for any.
    #[serde(default)]
    exit: i32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    hosts: Vec<String>,
    reason: String,
}

/// One runnable case: its variables are in place but for those of [`LATER`].
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) threats: Vec<String>,
    pub(crate) options: Table,
    pub(crate) app: Table,
    pub(crate) files: Table,
    pub(crate) start_error: Option<Value>,
    pub(crate) steps: Vec<Value>,
    pub(crate) transport: Option<Vec<String>>,
    pub(crate) alone: bool,
    pub(crate) tolerate: Vec<String>,
    pub(crate) panics: bool,
    pub(crate) exit: i32,
    skip: Option<Skip>,
}

impl Case {
    /// Why it is not run on `host`, if so.
    pub(crate) fn skipped_on(&self, host: &str) -> Option<&str> {
        self.skip.as_ref().filter(|skip| skip.hosts.iter().any(|name| name == host)).map(|skip| skip.reason.as_str())
    }

    /// Whether it is run over `transport` at all.
    pub(crate) fn runs_over(&self, transport: &str) -> bool {
        self.transport.as_ref().is_none_or(|only| only.iter().any(|name| name == transport))
    }
}

fn no_options() -> Value {
    Value::Table(Table::new())
}

/// Loads every file below `dir`, in the order of their names.
pub(crate) fn load(dir: &Path) -> Outcome<Vec<Case>> {
    let mut paths = Vec::new();
    collect(dir, &mut paths)?;
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let loaded = parse(&text).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        cases.extend(loaded);
    }
    let mut names = BTreeSet::new();
    match cases.iter().find(|case| !names.insert(&case.name)) {
        Some(twice) => fail!("two cases are called {:?}", twice.name),
        None => Ok(cases),
    }
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    Ok(())
}

/// The cases of one file.
fn parse(text: &str) -> Outcome<Vec<Case>> {
    let file: ScenarioFile = toml::from_str(text).map_err(|error| Failure(error.to_string()))?;
    let mut cases = Vec::new();
    for scenario in &file.scenario {
        let expanded = scenario.expand(&file.vars).map_err(|error| format!("{}: {error}", scenario.name))?;
        cases.extend(expanded);
    }
    Ok(cases)
}

impl Scenario {
    fn expand(&self, vars: &Table) -> Outcome<Vec<Case>> {
        if self.threats.is_empty() {
            return fail!("no threat id");
        }
        if self.transport.is_some() != self.transport_reason.is_some() {
            return fail!("`transport` and `transport_reason` go together");
        }
        if self.rfc.as_ref().is_some_and(|section| !section.contains('§')) {
            return fail!("rfc names a section: \"6455 §5.2\"");
        }
        if self.skip.as_ref().is_some_and(|skip| skip.reason.is_empty()) {
            return fail!("a skip without a reason");
        }
        self.rows()?.iter().map(|row| self.case(vars, row)).collect()
    }

    /// The variables of each case: `case`, times `each`; one empty row when there is neither.
    fn rows(&self) -> Outcome<Vec<Table>> {
        let mut rows = if self.case.is_empty() { vec![Table::new()] } else { self.case.clone() };
        for (name, values) in self.each.iter().flatten() {
            let Value::Array(values) = values else { return fail!("each.{name} is not a list") };
            rows = rows
                .iter()
                .flat_map(|row| {
                    values.iter().map(|value| {
                        let mut row = row.clone();
                        row.insert(name.clone(), value.clone());
                        row
                    })
                })
                .collect();
        }
        Ok(rows)
    }

    fn case(&self, vars: &Table, row: &Table) -> Outcome<Case> {
        let Value::Table(row_values) = substitute(&Value::Table(row.clone()), vars, LATER)? else {
            return fail!("a case is a table");
        };
        let mut vars = vars.clone();
        vars.extend(row_values);
        let table = |table: &Table| match substitute(&Value::Table(table.clone()), &vars, LATER)? {
            Value::Table(table) => Ok(table),
            _ => fail!("not a table"),
        };
        let Value::Table(options) = substitute(&self.options, &vars, LATER)? else {
            return fail!("options are a table");
        };
        let steps =
            unroll(&self.steps)?.iter().map(|step| substitute(step, &vars, LATER)).collect::<Outcome<Vec<_>>>()?;
        for step in &steps {
            Step::parse(step)?;
        }
        Ok(Case {
            name: self.label(row),
            threats: self.threats.clone(),
            options,
            app: table(&self.app)?,
            files: table(&self.files)?,
            start_error: self.start_error.as_ref().map(|error| substitute(error, &vars, LATER)).transpose()?,
            steps,
            transport: self.transport.clone(),
            alone: self.alone,
            tolerate: self.tolerate.clone(),
            panics: self.panics,
            exit: self.exit,
            skip: self.skip.clone(),
        })
    }

    /// `scenario` or `scenario[case]`: the row's `name`, else its values.
    fn label(&self, row: &Table) -> String {
        if row.is_empty() {
            return self.name.clone();
        }
        let mut parts: Vec<String> = Vec::new();
        match row.get("name") {
            Some(name) => {
                parts.push(plain(name.clone()));
                let each = self.each.iter().flatten().filter_map(|(name, _)| row.get(name));
                parts.extend(each.map(|value| plain(value.clone())));
            }
            None => parts.extend(row.values().map(|value| plain(value.clone()))),
        }
        let label: String = parts.join(" ").chars().take(70).flat_map(char::escape_default).collect();
        format!("{}[{label}]", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_substitute_and_are_named() {
        let cases = parse(
            r#"
            [[scenario]]
            name = "s"
            threats = ["H1"]
            steps = [{ upgrade = { origin = "{{origin}}" } }]
            case = [{ name = "one", origin = "a" }, { origin = "b\t" }]
            [[scenario]]
            name = "e"
            threats = ["H1"]
            each = { x = ["1", "2"], y = ["3"] }
            steps = [{ send = "{{x}}{{y}}{{addr}}" }]
            "#,
        )
        .unwrap();
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["s[one]", "s[b\\t]", "e[1 3]", "e[2 3]"]);
        assert_eq!(cases[1].steps[0]["upgrade"]["origin"].as_str(), Some("b\t"));
    }

    #[test]
    fn mistakes_are_found_at_load() {
        let with = |rest: &str| parse(&format!("[[scenario]]\nname = 's'\nthreats = ['H1']\n{rest}"));
        assert!(with("steps = [{ sned = 'x' }]").is_err());
        assert!(with("steps = [{ send = '{{typo}}' }]").is_err());
        assert!(with("transport = ['plain']").is_err());
        assert!(with("colour = 1").is_err());
        assert!(with("steps = [{ upgrade = { orign = 'x' } }]").is_err());
    }

    /// The whole checked-in suite loads and is large enough. That no threat is without a scenario, tests/support looks after.
    #[test]
    fn the_suite_loads() {
        let cases = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")).unwrap();
        assert!(cases.len() >= 300, "only {} cases", cases.len());
    }
}
