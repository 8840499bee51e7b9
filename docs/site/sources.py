"""The Markdown of the repository as pages of the site: where each file goes, and what its links become.

A link in the repository names a file beside it, and works on the repository's web page. On the site it leads to the page
that was made of that file; a file that is no page (an example, a configuration) becomes one that shows its text. So every
link stays on the site, and a link to nothing fails the build.
"""

import html
import pathlib
import posixpath
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Where the site has a page made of the file, which is the better answer.
BETTER = {
    "README.md#options": "reference/options.md#options",
    "README.md#messages": "start/browser.md#messages",
    "core/proto/options.json": "reference/options.md",
    "core/proto/src/verdict.rs": "reference/verdicts.md",
    "core/proto/src/metrics/families.rs": "reference/metrics.md",
    "include/wsguard.h": "reference/c.md",
    "include/wsguard.hpp": "reference/cpp.md",
    "bindings-node/index.d.ts": "reference/node.md",
    "bindings-node/ws/index.d.ts": "reference/node-ws.md",
    "bindings-node/testing/index.d.ts": "reference/node-testing.md",
    "bindings-node/client/client.d.ts": "reference/client.md",
    "bindings-python/python/wsguard/_wsguard.pyi": "reference/python.md",
    "bindings-python/python/wsguard/_server.py": "reference/python.md",
}
# Code, which is left alone, or a link, whose text may be code.
CODE_OR_LINK = re.compile(r"`+[^`]*`+|(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\()([^()\s]+)(\))")
FENCE = re.compile(r"^\s*(```|~~~)")
LIST_ITEM = re.compile(r"^(\s*)([-*+]|\d+\.)\s+")
LANGUAGES = {
    ".rs": "rust",
    ".py": "python",
    ".pyi": "python",
    ".mjs": "js",
    ".js": "js",
    ".ts": "ts",
    ".c": "c",
    ".h": "c",
    ".hpp": "cpp",
    ".cpp": "cpp",
    ".yml": "yaml",
    ".json": "json",
    ".toml": "toml",
    ".sh": "bash",
    ".conf": "nginx",
}
SKIPPED = {"node_modules", "target", ".venv", "__pycache__"}


class Sources:
    """Collects pages: `pages` is site path -> text, `files` is site path -> file to copy."""

    def __init__(self, places):
        """`places`: path in the repository -> path on the site, for the files that have a place in the navigation."""
        self.places, self.pages, self.files = dict(places), {}, {}

    def add(self, source):
        """Makes the page of a Markdown file of the repository."""
        self.pages[self.places[source]] = self.convert((ROOT / source).read_text(), source, self.places[source])

    def convert(self, text, source, place):
        """Text of the file `source` as the page `place`."""
        return self.with_links(for_python_markdown(text), source, place)

    def with_links(self, text, source, place):
        def changed(link):
            if not link[1]:
                return link[0]
            line = link.string[link.string.rfind("\n", 0, link.start()) + 1 :]
            # Indented by four it may be code, in which nothing is a link, or a part of a list.
            return link[1] + self.target(link[2], source, place, line.startswith("    ")) + link[3]

        return "\n\n".join(part if is_code else CODE_OR_LINK.sub(changed, part) for part, is_code in paragraphs(text))

    def target(self, link, source, place, maybe=False):
        """What a link of the file `source` is on the page `place`."""
        if re.match(r"[a-z]+:", link) or (link.startswith("#") and self.places.get(source) == place):
            return link
        path, _, anchor = link.partition("#")
        path = path or posixpath.basename(source)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if better := BETTER.get(f"{path}#{anchor}" if anchor else path):
            return relative(better, place)
        if not (ROOT / path).exists():
            if maybe:
                return link
            raise SystemExit(f"{source}: the link {link} leads to nothing")
        there = self.place_of(path)
        return relative(there, place) + (f"#{anchor}" if anchor else "")

    def place_of(self, path):
        """Where the site has a file or folder of the repository; it is added when it is not there yet."""
        if path in self.places:
            return self.places[path]
        file = ROOT / path
        if file.suffix in (".svg", ".png"):
            self.places[path] = f"source/{path}"
            self.files[self.places[path]] = file
        elif file.is_dir() and (file / "README.md").exists():
            self.places[path] = self.place_of(f"{path}/README.md")
        elif file.suffix == ".md":
            self.places[path] = f"source/{path.lower()}"
            self.pages[self.places[path]] = HIDDEN + self.convert(file.read_text(), path, self.places[path])
        else:
            self.places[path] = f"source/{path}.md".lower()
            self.pages[self.places[path]] = HIDDEN + (self.folder(path) if file.is_dir() else shown(path))
        return self.places[path]

    def folder(self, path):
        """The page of a folder: its files, each with a page of its own."""
        place = self.places[path]
        files = sorted(
            file
            for file in (ROOT / path).iterdir()
            if file.name not in SKIPPED and not file.name.startswith(".") and is_text(file)
        )
        lines = [f"- [{file.name}]({relative(self.place_of(f'{path}/{file.name}'), place)})" for file in files]
        return f"# {path}\n\n" + "\n".join(lines) + "\n"


# Pages of source files are found by links; the search has enough to say without them.
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"


def is_text(file):
    """Whether a file can be shown; a folder can."""
    try:
        return file.is_dir() or b"\0" not in file.read_bytes()[:4096]
    except OSError:
        return False


def shown(path):
    """The page of a source file."""
    file = ROOT / path
    text = file.read_text().rstrip("\n")
    if file.name == "package-lock.json" or len(text) > 200_000:
        return f"# {path}\n\nThis file is in the repository; it is too long for a page.\n"
    return (
        f"# {file.name}\n\n`{path}` of the repository.\n\n"
        + fenced_text(text, LANGUAGES.get(file.suffix, "text"))
        + "\n"
    )


def fenced_text(text, language):
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def relative(there, here):
    """The link from the page `here` to the page `there`."""
    return posixpath.relpath(there, posixpath.dirname(here) or ".")


def for_python_markdown(text):
    """What the repository's page reads and Python-Markdown does not: lists without a blank line before them, and lists in
    lists that are indented by less than four spaces."""
    out, fenced, in_list = [], False, False
    for line in text.split("\n"):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            item = LIST_ITEM.match(line)
            before = out[-1] if out else ""
            if item and before.strip() and not in_list and not line.startswith("    "):
                out.append("")
            goes_on = in_list and not item and re.match(r"^ {2,3}(?=\S)", line)
            if goes_on or (item and len(item[1]) in (2, 3)):
                line = "    " + line.lstrip()
            in_list = bool(item) or (in_list and (not line.strip() or line.startswith(" ")))
        out.append(line)
    return "\n".join(out)


def paragraphs(text):
    """(paragraph, whether it is part of a fenced block) for each; joined by empty lines they are the text again."""
    fenced = False
    for part in text.split("\n\n"):
        marks = sum(bool(FENCE.match(line)) for line in part.split("\n"))
        if not fenced and marks == 2 and not FENCE.match(part):
            yield part, False  # a fence within a list: links before it count, and code has none that look like ours
        else:
            yield part, fenced or bool(FENCE.match(part))
        fenced ^= bool(marks % 2)


def section(source, heading):
    """The text below a heading of a Markdown file, up to the next heading of its level or above."""
    lines, taken, level, fenced = (ROOT / source).read_text().split("\n"), [], 0, False
    for line in lines:
        fenced ^= bool(FENCE.match(line))
        mark = None if fenced else re.match(r"^(#+) (.*)$", line)
        if mark and level and len(mark[1]) <= level:
            break
        if level:
            taken.append(line)
        elif mark and mark[2].strip() == heading:
            level = len(mark[1])
    if not level:
        raise SystemExit(f"{source} has no heading {heading!r}")
    return "\n".join(taken).strip("\n")


def escaped(text):
    """Prose that may hold what HTML or a table reads as its own."""
    return html.escape(text, quote=False).replace("|", "\\|")
