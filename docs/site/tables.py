"""The reference pages of options, verdicts and metrics, from the tables of the core."""

import json
import re

from sources import ROOT, escaped, section

CORE = ROOT / "core" / "proto"
KINDS = {
    "text": "text",
    "flag": "true or false",
    "whole": "whole number",
    "list": "list",
    "map": "object",
    "choice": "choice",
    "codes": "choice",
    "section": "object",
    "ways": "text or object",
    "number": "number",
    "route": "object",
}


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def facts(rows):
    """A table of two columns that a phone can show."""
    lines = ["| | |", "|---|---|"] + [f"| {name} | {value} |" for name, value in rows if value]
    return "\n".join(lines) + "\n"


def code(text):
    return "`" + text.replace("|", "\\|") + "`"


def default(option):
    if option["required"]:
        return "none: it must be stated"
    if "absent" in option:
        absent = option["absent"]
        return (
            absent if absent.startswith("`") or option["default"] == "null" else f"{absent}: {code(option['default'])}"
        )
    return code(option["default"])


def option_text(option, level, sections, of):
    """An option: its heading, what it is, and its facts."""
    name, whole = option["name"], of == "Options"
    kind = KINDS.get(option["type"], option["type"])
    if "item" in option and (inner := option["item"].get("section")):
        kind += f" of [{inner}](#{inner.lower()})"
    elif option.get("section") in sections:
        kind += f": [{option['section']}](#{option['section'].lower()})"
    rows = [
        ("Type", kind),
        ("Default", default(option)),
        ("Accepted", escaped(option["accepted"])),
        ("At most", f"{option['most']} entries" if "most" in option else ""),
        ("In Node", code(camel(name)) if camel(name) != name else ""),
        (
            "Scope",
            {"process": "the whole server", "route": "the server, or one of `routes`"}[option["scope"]]
            if whole
            else "",
        ),
        ("Reload", ("takes effect at a reload" if option["reloadable"] else "only at the start") if whole else ""),
        ("Secret", "never in logs or errors" if option["secret"] else ""),
    ]
    anchor = name if whole else f"{of.lower()}-{name}"
    return f'{"#" * level} `{name}` {{ #{anchor} data-toc-label="{name}" }}\n\n{prose(option["doc"])}\n\n{facts(rows)}'


def prose(text):
    """A documentation text: it is Markdown, but `<` is no HTML."""
    return re.sub(r"`[^`]*`|[<>]", lambda it: it[0] if len(it[0]) > 1 else {"<": "&lt;", ">": "&gt;"}[it[0]], text)


def linked_options(table, names):
    """The README's table, each option leading to its section."""

    def row(line):
        found = re.match(r"\| `([a-z_]+)` \|", line)
        if not found:
            return line
        if found[1] not in names:
            raise SystemExit(f"README.md has a row for the option {found[1]!r}, which does not exist")
        return line.replace(f"`{found[1]}`", f"[`{found[1]}`](#{found[1]})", 1)

    return "\n".join(row(line) for line in table.split("\n"))


def options(converted):
    groups = json.loads((CORE / "options.json").read_text())
    sections = {group["name"] for group in groups}
    main, others = groups[0], groups[1:]
    glance = section("README.md", "Options").split("| document | holds |")[0].rstrip()
    out = [
        "# Options",
        "",
        "A policy is one object of these options: keyword arguments in Python, an object in Node (in camelCase), JSON in Rust, "
        "C and C++. What is not stated has its default. [Rules in detail](../docs/SEMANTICS.md) says what the rules behind "
        "them do.",
        "",
        "## All at a glance { #options }",
        "",
        linked_options(converted(glance, "README.md"), {option["name"] for option in main["options"]}),
        "",
        "## Each option",
        "",
    ]
    out += [option_text(option, 3, sections, "Options") for option in main["options"]]
    out += ["## Objects of options", ""]
    for group in others:
        out += [f"### {group['name']} {{ #{group['name'].lower()} }}", "", prose(group["doc"]), ""]
        out += [option_text(option, 4, sections, group["name"]) for option in group["options"]]
    return "\n".join(out)


VERDICT = re.compile(r'((?:    /// .*\n)+)    (\w+) = "(\w+)", (\d+), (\d+), "([^"]*)", (\w+), (\w+);')
# "The rules for `Origin`, `Host` and credentials" of `report_handshakes`.
OF_HANDSHAKES = {"origin_denied", "host_denied", "auth_failed"}
SEVERITY = {
    "Notice": "part of normal operation",
    "Violation": "the peer broke a rule",
    "Fault": "the server or the application failed",
}


def verdicts(converted):
    rows = VERDICT.findall((CORE / "src" / "verdict.rs").read_text())
    if len(rows) < 30:
        raise SystemExit(f"core/proto/src/verdict.rs: only {len(rows)} verdicts were understood")
    remedies = symptoms(converted)
    out = [
        "# Verdicts",
        "",
        "A verdict is the stable name of what was refused, and why. It is the same in the log, in `violation` events, in "
        "metrics and in every language. [What a client sees](../docs/SEMANTICS.md#what-a-client-sees) says how a client "
        "should take an answer; [What to do when](../docs/OPERATING.md#what-to-do-when) begins with symptoms.",
        "",
        "## All at a glance",
        "",
        "| verdict | HTTP | close | means |",
        "|---|---|---|---|",
    ]
    for doc, _, name, status, close, *_ in rows:
        out.append(
            f"| [`{name}`](#{name}) | {status if int(status) else '–'} | {close if int(close) else '–'} | {said(doc)} |"
        )
    out += ["", "## Each verdict", ""]
    for doc, _, name, status, close, reason, severity, subject in rows:
        out += [
            f'### `{name}` {{ #{name} data-toc-label="{name}" }}',
            "",
            said(doc),
            "",
            facts(
                [
                    ("HTTP status", status if int(status) else ""),
                    ("Close code", close if int(close) else ""),
                    ("Without an answer", "the connection is dropped" if not int(status) and not int(close) else ""),
                    ("Reason", f"{reason}"),
                    ("Kind", SEVERITY[severity]),
                    (
                        'With `on_violation: "report"`',
                        "the message passes"
                        if subject == "Message"
                        else "let in with [`report_handshakes`](options.md#report_handshakes)"
                        if name in OF_HANDSHAKES
                        else "still refused",
                    ),
                ]
            ),
        ]
        for symptom, record, do in remedies.get(name, []):
            out += [f"**{symptom[:1].upper() + symptom[1:]}?** Seen as {record}. Do: {do}.", ""]
    out += [
        "## How verdicts are told",
        "",
        converted(before_table(section("docs/SEMANTICS.md", "Verdicts")), "docs/SEMANTICS.md"),
    ]
    return "\n".join(out)


def said(doc):
    return escaped(" ".join(line.strip().removeprefix("/// ") for line in doc.strip().split("\n")))


def symptoms(converted):
    """Verdict -> rows of OPERATING's table of symptoms that name it."""
    found, symptom = {}, ""
    for line in converted(section("docs/OPERATING.md", "What to do when"), "docs/OPERATING.md").split("\n")[2:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) != 3:
            continue
        symptom = cells[0] or symptom
        for name in set(re.findall(r"`([a-z]+_?[a-z0-9_]*)`", cells[1] + cells[0])):
            found.setdefault(name, []).append((symptom, cells[1], cells[2].rstrip(".")))
    return found


def before_table(text):
    """What SEMANTICS says of verdicts before their table, which this page is."""
    return text.split("| code | HTTP status |")[0].strip()


FAMILY = re.compile(r'family\(\s*(\w+),\s*"(\w+)",\s*(\w+),\s*"((?:[^"\\]|\\.)*)"', re.S)
ENDS = {"Counter": "_total", "Info": "_info"}


def metrics(_):
    rows = FAMILY.findall((CORE / "src" / "metrics" / "families.rs").read_text())
    if len(rows) < 20:
        raise SystemExit(f"families.rs: only {len(rows)} metrics were understood")
    out = [
        "# Metrics",
        "",
        "`/metrics` of [`admin_listen`](options.md#admin_listen) and `metrics()` of a server give these, as OpenMetrics. "
        "[Operating](../docs/OPERATING.md#prometheus) has the Prometheus configuration, alerts and a dashboard.",
        "",
        "| metric | type | unit | tells |",
        "|---|---|---|---|",
    ]
    for kind, name, unit, doc in rows:
        unit = {"None": "–"}.get(unit, unit.lower())
        out.append(f"| `{name}{ENDS.get(kind, '')}` | {kind.lower()} | {unit} | {escaped(doc)} |")
    return "\n".join(out) + "\n"
