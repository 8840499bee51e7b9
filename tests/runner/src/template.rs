//! `{{name}}` substitution and loop expansion, on TOML values before they become steps.

use toml::{Table, Value};
use wsguard_test_support::outcome::{Outcome, fail};

/// Replaces `{{name}}` in every string of `value`. A string that is nothing but `{{name}}` becomes the variable's
/// value with its type. A name in `later` is left as it is: it is known only once the host runs.
pub(crate) fn substitute(value: &Value, vars: &Table, later: &[&str]) -> Outcome<Value> {
    Ok(match value {
        Value::String(text) => substitute_text(text, vars, later)?,
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| substitute(item, vars, later)).collect::<Outcome<_>>()?)
        }
        Value::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, item)| Ok((plain(substitute_text(key, vars, later)?), substitute(item, vars, later)?)))
                .collect::<Outcome<_>>()?,
        ),
        other => other.clone(),
    })
}

fn substitute_text(text: &str, vars: &Table, later: &[&str]) -> Outcome<Value> {
    if let Some(name) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"))
        && let Some(value) = vars.get(name)
    {
        return Ok(value.clone());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else { break };
        let name = &rest[start + 2..start + length];
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        out.push_str(&rest[..start]);
        match vars.get(name) {
            Some(value) => out.push_str(&plain(value.clone())),
            None if repeated(name).is_some() => out.extend(repeated(name)),
            None if is_name && !later.contains(&name) => return fail!("unknown variable {{{{{name}}}}}"),
            None => out.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

/// `{{x*1000}}`: a character so many times.
fn repeated(name: &str) -> Option<String> {
    let (text, times) = name.rsplit_once('*')?;
    let mut characters = text.chars();
    let character = characters.next().filter(|_| characters.next().is_none())?;
    Some(character.to_string().repeat(times.parse().ok()?))
}

/// A value as it reads inside a longer string.
pub(crate) fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Unrolls `{ loop = { times = N, var = "i", steps = […] } }`, nested ones too.
pub(crate) fn unroll(steps: &[Value]) -> Outcome<Vec<Value>> {
    let mut flat = Vec::new();
    for step in steps {
        let Some(Value::Table(spec)) = step.get("loop") else {
            flat.push(step.clone());
            continue;
        };
        let (Some(times), Some(Value::Array(body))) =
            (spec.get("times").and_then(Value::as_integer), spec.get("steps"))
        else {
            return fail!("loop wants `times` and `steps`");
        };
        let var = spec.get("var").and_then(Value::as_str).unwrap_or("i").to_owned();
        for turn in 0..times {
            let vars = Table::from_iter([(var.clone(), Value::Integer(turn))]);
            for inner in unroll(body)? {
                flat.push(substitute_known(&inner, &vars));
            }
        }
    }
    Ok(flat)
}

/// Substitutes the given variables and leaves every other `{{…}}` alone.
fn substitute_known(value: &Value, vars: &Table) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            for (name, value) in vars {
                let pattern = format!("{{{{{name}}}}}");
                if text == pattern {
                    return value.clone();
                }
                text = text.replace(&pattern, &plain(value.clone()));
            }
            Value::String(text)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| substitute_known(item, vars)).collect()),
        Value::Table(table) => {
            Value::Table(table.iter().map(|(key, item)| (key.clone(), substitute_known(item, vars))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn whole_strings_keep_the_type_of_the_variable() {
        let out = substitute(&Value::Table(table("a = \"{{n}}\"\nb = \"x{{n}}y\"")), &table("n = 5"), &[]).unwrap();
        assert_eq!(out["a"], Value::Integer(5));
        assert_eq!(out["b"], Value::String("x5y".into()));
    }

    #[test]
    fn unknown_names_fail_and_later_ones_stay() {
        let value = Value::String("{{addr}} {{typo}}".into());
        assert!(substitute(&value, &Table::new(), &["addr"]).is_err());
        let value = Value::String("{{addr}}".into());
        assert_eq!(substitute(&value, &Table::new(), &["addr"]).unwrap(), value);
    }

    #[test]
    fn characters_repeat() {
        let value = Value::String("{{[*3}}x".into());
        assert_eq!(substitute(&value, &Table::new(), &[]).unwrap(), Value::String("[[[x".into()));
    }

    #[test]
    fn json_braces_are_not_variables() {
        let value = Value::String(r#"{"data":{"a":{}}}"#.into());
        assert_eq!(substitute(&value, &Table::new(), &[]).unwrap(), value);
    }

    #[test]
    fn loops_unroll() {
        let steps = table("s = [{ loop = { times = 2, steps = [{ on = \"c{{i}}\" }, { on = \"{{x}}\" }] } }]");
        let flat = unroll(steps["s"].as_array().unwrap()).unwrap();
        let names: Vec<_> = flat.iter().map(|step| step["on"].as_str().unwrap()).collect();
        assert_eq!(names, ["c0", "{{x}}", "c1", "{{x}}"]);
    }
}
