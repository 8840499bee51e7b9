"""The reference pages of Node, from the declarations (`.d.ts`) that an editor shows."""

import re

from sources import ROOT

# A declaration with fewer lines than this is shown whole, its comments inside.
LONG = 30
BEGIN = re.compile(
    r"^(?:export )?(?:default )?(?:declare )?(?:abstract )?(class|interface|type|function|const|namespace|let|var) (\w+)"
)
MEMBER = re.compile(r"(?:static |readonly |protected |async |get |set )*(\[?[\w.~'$]+|\()")


def page(title, opening, files):
    """One page of several files: (heading, path in the repository, whether the search has it)."""
    out = [f"# {title}", "", opening, ""]
    for heading, path, is_found in files:
        if heading:
            out += [f"## {heading}", ""]
        entries = declarations((ROOT / path).read_text().split("\n"))
        if not entries:
            raise SystemExit(f"{path}: no declaration was understood")
        for name, doc, lines in entries:
            out += entry(name, doc, lines, is_found)
    return "\n".join(out)


def declarations(lines, indent=""):
    """(name, documentation, lines) of each declaration at this indentation."""
    found, doc, at = [], [], 0
    while at < len(lines):
        line = lines[at]
        text = line[len(indent) :] if line.startswith(indent) else ""
        if text.startswith("/**"):
            doc, at = comment(lines, at)
            continue
        begin = BEGIN.match(text) if not indent else text[:1].strip() and MEMBER.match(text)
        if not begin:
            doc, at = [], at + 1
            continue
        end = end_of(lines, at)
        named = BEGIN.match(text)
        found.append((named[2] if named else begin[1].strip("(["), doc, lines[at:end]))
        doc, at = [], end
    return together(found)


def together(entries):
    """Overloads, and a class beside its constructor, as one entry: their documentation one after the other."""
    found = []
    for name, doc, lines in entries:
        if found and found[-1][0] == name and BEGIN.match(lines[0].strip()) is None:
            found[-1] = (name, found[-1][1] + ([""] + doc if doc else []), found[-1][2] + lines)
        else:
            found.append((name, doc, lines))
    return found


def comment(lines, at):
    """The words of the comment that begins here, and the line behind it."""
    end = next(number for number in range(at, len(lines)) if "*/" in lines[number])
    words = " ".join(lines[at : end + 1]) if end == at else "\n".join(lines[at : end + 1])
    words = re.sub(r"^\s*/\*\*\s?|\s*\*/\s*$", "", words)
    return [re.sub(r"^\s*\* ?", "", line) for line in words.split("\n")], end + 1


def end_of(lines, at):
    """The line behind the declaration that begins here: where its brackets are closed and it ends."""
    depth = 0
    for number in range(at, len(lines)):
        line = re.sub(r"'[^']*'|//.*|/\*.*?\*/|=>", "", lines[number])
        if re.match(r"^\s*(/?\*)", line):
            continue
        depth += sum(line.count(sign) for sign in "{([") - sum(line.count(sign) for sign in "})]")
        if depth <= 0 and re.search(r"[;}]\s*$", line):
            return number + 1
    return len(lines)


def entry(name, doc, lines, is_found):
    """A declaration: whole, or a long one by its members."""
    kind = BEGIN.match(lines[0])[1]
    hidden = "" if is_found else " data-search-exclude"
    out = [f'### `{name}` {{ data-toc-label="{name}"{hidden} }}', "", prose(doc), ""]
    if len(lines) < LONG or kind not in ("class", "interface", "namespace"):
        return [*out, *block(lines)]
    out += block([lines[0], "  // its members are below", "}"])
    for member, words, text in declarations(lines[1:-1], "  "):
        out += [
            f'#### `{member}` {{ data-toc-label="{member}"{hidden} }}',
            "",
            prose(words),
            "",
            *block([line[2:] for line in text]),
        ]
    return out


def block(lines):
    return ["```ts", *lines, "```", ""]


def prose(lines):
    text = re.sub(r"\{@link (\w+)\}", r"`\1`", "\n".join(lines)).strip()
    return re.sub(r"`[^`]*`|[<>]", lambda it: it[0] if len(it[0]) > 1 else {"<": "&lt;", ">": "&gt;"}[it[0]], text)
