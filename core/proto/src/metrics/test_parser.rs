//! A strict parser of OpenMetrics 1.0, written from the specification's ABNF and prose alone: the oracle of tests.
#![allow(dead_code, reason = "not every test asks for everything")]
#![allow(clippy::float_cmp, reason = "numbers are written exactly")]

use std::collections::{BTreeMap, BTreeSet};

/// One metric of a text.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: Option<String>,
    pub(crate) help: Option<String>,
    /// Samples by their whole name, labels included as they were written: `x_total{code="y"}`.
    pub(crate) samples: Vec<(String, f64)>,
}

/// The metrics of a text by name, or what is wrong with which line.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("no `# EOF` line at the end")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("`# EOF` is no line of its own".to_owned());
    }
    let mut parser = Parser::default();
    for (number, line) in body.lines().enumerate() {
        let done = match line.strip_prefix("# ") {
            Some(descriptor) => parser.descriptor(descriptor),
            None => parser.sample(line),
        };
        done.map_err(|what| format!("line {}: {what}: {line}", number + 1))?;
    }
    parser.end_family()?;
    Ok(parser.families)
}

#[derive(Default)]
struct Parser {
    families: BTreeMap<String, Family>,
    current: String,
    seen: BTreeSet<String>,
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, '_' | ':'))
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':'))
}

impl Parser {
    fn descriptor(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.splitn(3, ' ');
        let (Some(what), Some(name), Some(text)) = (words.next(), words.next(), words.next()) else {
            return Err("not three words".to_owned());
        };
        if !is_name(name) {
            return Err("no name".to_owned());
        }
        if name != self.current {
            self.end_family()?;
            if self.families.contains_key(name) {
                return Err("a metric's lines are not together".to_owned());
            }
            name.clone_into(&mut self.current);
            self.families.insert(name.to_owned(), Family::default());
        }
        let family = self.families.get_mut(name).ok_or("lost")?;
        if !family.samples.is_empty() {
            return Err("a descriptor behind samples".to_owned());
        }
        match what {
            "TYPE" if family.kind.is_empty() && ["counter", "gauge", "histogram", "info"].contains(&text) => {
                text.clone_into(&mut family.kind);
            }
            "UNIT" if family.unit.is_none() => {
                if !name.ends_with(&format!("_{text}")) {
                    return Err("the name does not end with the unit".to_owned());
                }
                family.unit = Some(text.to_owned());
            }
            "HELP" if family.help.is_none() => family.help = Some(unescaped(text)?),
            _ => return Err("an unknown descriptor, or one that comes twice".to_owned()),
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
        let number = number(value)?;
        let family = self.families.get_mut(&self.current).ok_or("a sample without a metric")?;
        let suffix = name.strip_prefix(&self.current).ok_or("a sample of another metric")?;
        let names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        let allowed = match family.kind.as_str() {
            "counter" => suffix == "_total" && number >= 0.0 && !number.is_nan(),
            "gauge" => suffix.is_empty(),
            "info" => suffix == "_info" && value == "1",
            "histogram" if suffix == "_bucket" => names.ends_with(&["le"]),
            "histogram" => matches!(suffix, "_count" | "_sum") && !names.contains(&"le"),
            _ => false,
        };
        if !allowed || (suffix != "_bucket" && names.contains(&"le")) {
            return Err(format!("a {:?} has no such sample", family.kind));
        }
        if !self.seen.insert(line[..line.len() - value.len()].to_owned()) {
            return Err("a sample comes twice".to_owned());
        }
        family.samples.push((line[..line.len() - value.len() - 1].to_owned(), number));
        Ok(())
    }

    fn end_family(&self) -> Result<(), String> {
        let Some(family) = self.families.get(&self.current) else { return Ok(()) };
        if family.kind.is_empty() {
            return Err(format!("{} has no type", self.current));
        }
        if family.kind == "info" && family.unit.is_some() {
            return Err(format!("{}: info has no unit", self.current));
        }
        if family.kind == "histogram" && !family.samples.is_empty() { histogram(family) } else { Ok(()) }
    }
}

/// Buckets in ascending order that never shrink, up to `+Inf`, then `_count`, which is the last of them, and `_sum`.
fn histogram(family: &Family) -> Result<(), String> {
    let (mut bound, mut below) = (f64::NEG_INFINITY, 0.0);
    let mut samples = family.samples.iter().peekable();
    while let Some((name, count)) = samples.next_if(|(name, _)| name.contains("_bucket{")) {
        let le = name.split("le=\"").nth(1).and_then(|le| le.strip_suffix("\"}")).ok_or("no le")?;
        let next = number(le)?;
        if next <= bound || *count < below || !is_canonical(le) {
            return Err(format!("buckets out of order, or le is not canonical: {name}"));
        }
        (bound, below) = (next, *count);
    }
    let rest: Vec<_> = samples.collect();
    match rest[..] {
        [(count_name, count), (sum_name, sum)]
            if bound == f64::INFINITY
                && count_name.ends_with("_count")
                && sum_name.ends_with("_sum")
                && *count == below
                && *sum >= 0.0 =>
        {
            Ok(())
        }
        _ => Err(format!("no +Inf, _count and _sum that fit: {rest:?}")),
    }
}

/// Whether a number that may be the value of `le` is written as section "Considerations: Canonical Numbers" has it.
fn is_canonical(text: &str) -> bool {
    text == "+Inf"
        || text.contains('.')
            && !text.starts_with('+')
            && (text.ends_with(".0") || !text.ends_with('0'))
            && text.parse().is_ok_and(|number: f64| (1e-4..1e6).contains(&number))
}

/// Names and texts.
type Labels = Vec<(String, String)>;

/// `label="text",…}` and what follows it.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut found = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name) || name.contains(':') || found.iter().any(|(other, _)| other == name) {
            return Err("no label, or one that comes twice".to_owned());
        }
        let mut escaped = false;
        let end = after.find(|letter| {
            let is_end = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            is_end
        });
        let end = end.ok_or("a label without an end")?;
        found.push((name.to_owned(), unescaped(&after[..end])?));
        rest = &after[end + 1..];
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((found, rest));
        }
        rest = rest.strip_prefix(',').ok_or("no comma")?;
    }
}

/// What an escaped text stands for.
pub(crate) fn unescaped(text: &str) -> Result<String, String> {
    let mut letters = text.chars();
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some(letter @ ('\\' | '"')) => letter,
                _ => return Err("an unknown escape".to_owned()),
            },
            '"' | '\n' | '\r' => return Err("not escaped".to_owned()),
            other => other,
        });
    }
    Ok(out)
}

fn number(text: &str) -> Result<f64, String> {
    let is_real = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e'))
        || matches!(text, "+Inf" | "-Inf" | "NaN");
    let number = text.parse::<f64>().ok().filter(|_| is_real);
    number.ok_or_else(|| "no number".to_owned())
}
