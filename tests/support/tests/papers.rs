#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! Papers and tests tell of each other what is so: every threat is proved where docs/THREATS.md says, every id in a test is a
//! threat, and every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository with this ending, but for what is built or installed.
fn files(ending: &str) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", ".venv", "corpus"];
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap_or_default());
            let is_ours = !NOT_OURS.contains(&name.as_str()) && (!name.starts_with('.') || name == ".github");
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

/// What stands between `open` and the next `close`, wherever it does.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close)).map(|(inside, _)| inside)
}

/// What stands between two quotes and the next two, and so on.
fn quoted(text: &str, quote: char) -> impl Iterator<Item = &str> {
    text.split(quote).skip(1).step_by(2)
}

/// The ids that a file of scenarios names.
fn ids(scenarios: &str) -> BTreeSet<&str> {
    between(scenarios, "threats = [", "]").flat_map(|list| quoted(list, '"')).collect()
}

/// The tests of faults or proxy, by name, with the id of each.
fn tests(of: &str) -> BTreeMap<String, String> {
    let text = read(&format!("tests/{of}/src/main.rs"));
    let value = |line: &str, key: &str| between(line, &format!("{key}: \""), "\"").next().map(str::to_owned);
    text.lines().filter_map(|line| Some((value(line, "name")?, value(line, "threat")?))).collect()
}

/// The rows of docs/THREATS.md: an id, and where it is proved.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = read("docs/THREATS.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [id, _, proofs] = cells[..] else { return None };
        let is_id =
            id.starts_with(|first: char| first.is_ascii_uppercase()) && id.ends_with(|c: char| c.is_ascii_digit());
        is_id.then(|| (id.to_owned(), proofs.split(", ").map(str::to_owned).collect()))
    });
    rows.collect()
}

#[test]
fn every_threat_is_proved_where_the_table_says() {
    let (faults, proxy) = (tests("faults"), tests("proxy"));
    let rows = rows();
    assert!(rows.len() >= 70, "{} rows", rows.len());
    for (id, proofs) in rows {
        for proof in proofs {
            let name = quoted(&proof, '`').next().unwrap_or_else(|| panic!("{id}: {proof}"));
            let scenarios = root().join("tests/scenarios").join(format!("{name}.toml"));
            let proved = match proof.split_once(' ') {
                Some(("faults", _)) => faults.get(name) == Some(&id),
                Some(("proxy", _)) => proxy.get(name) == Some(&id),
                _ if scenarios.exists() => ids(&fs::read_to_string(scenarios).unwrap()).contains(id.as_str()),
                _ => root().join(name).exists(),
            };
            assert!(proved, "{id} is not proved by {proof}");
        }
    }
}

#[test]
fn every_id_in_a_test_is_a_threat() {
    let known: BTreeSet<_> = rows().into_iter().map(|(id, _)| id).collect();
    let texts: Vec<_> = files(".toml").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let (faults, proxy) = (tests("faults"), tests("proxy"));
    let named =
        texts.iter().flat_map(|text| ids(text)).chain(faults.values().chain(proxy.values()).map(String::as_str));
    let named: BTreeSet<_> = named.filter(|id| *id != "options").collect();
    assert!(named.len() >= 65, "{} ids", named.len());
    let unknown: Vec<_> = named.into_iter().filter(|id| !known.contains(*id)).collect();
    assert!(unknown.is_empty(), "docs/THREATS.md has no row for {unknown:?}");
}

#[test]
fn every_link_of_a_paper_leads_somewhere() {
    let papers = files(".md");
    assert!(papers.len() >= 15, "{} papers", papers.len());
    for paper in papers {
        let text = fs::read_to_string(&paper).unwrap();
        for link in between(&text, "](", ")").filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { paper.clone() } else { paper.with_file_name(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", paper.display());
            let has_anchor = || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            assert!(anchor.is_empty() || has_anchor(), "{}: {link} has no such heading", paper.display());
        }
    }
}

/// The headings of a paper as links name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    headings.map(|heading| heading.chars().filter_map(kept).collect()).collect()
}

/// A paper that a comment names is there. Papers are written in capitals, and named by their path from the root, or by their
/// name alone when they lie there.
#[test]
fn every_paper_that_a_source_names_is_there() {
    let sources =
        [".rs", ".c", ".h", ".hpp", ".cpp", ".py", ".pyi", ".js", ".mjs", ".ts", ".toml", ".sh", "run", "Makefile"];
    let mut missing = BTreeSet::new();
    for source in sources.into_iter().flat_map(files) {
        let Ok(text) = fs::read_to_string(&source) else { continue };
        // A link that a program writes or reads is no name.
        let texts = text.split("](").enumerate();
        let texts = texts.map(|(at, text)| if at == 0 { text } else { text.split_once(')').map_or("", |two| two.1) });
        for word in texts.flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)))) {
            let Some((folder, name)) = word.strip_suffix(".md").map(|path| path.rsplit_once('/').unwrap_or(("", path)))
            else {
                continue;
            };
            let is_paper = name.len() > 3 && name.bytes().all(|byte| byte.is_ascii_uppercase());
            // A script may put a variable in front.
            let behind = word.split_once('/').map_or(word, |(_, behind)| behind);
            let there =
                [root().join(word), source.with_file_name(word), root().join(behind)].iter().any(|path| path.exists());
            if is_paper && !there {
                missing.insert(format!("{} names {folder}/{name}.md", source.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
