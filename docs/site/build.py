#!/usr/bin/env python3
"""Puts the documentation site together and builds it: build.py WORK [--rust FOLDER].

WORK/src gets the pages, WORK/html the site. Pages come from three places: Markdown of the repository, pages/ beside this
file, and the sources (options, verdicts, metrics, the interfaces of each language). `--rust` names what `cargo doc` made.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

import headers
import pyapi
import sources
import tables
import typings
import yaml

HERE = pathlib.Path(__file__).resolve().parent
NODE = "bindings-node/"
# Each is given a function that makes text of a file of the repository fit for its page: (text, file).
GENERATED = {
    "reference/options.md": tables.options,
    "reference/verdicts.md": tables.verdicts,
    "reference/metrics.md": tables.metrics,
    "reference/c.md": lambda _: headers.c(),
    "reference/cpp.md": lambda _: headers.cpp(),
    "reference/python.md": lambda _: pyapi.page(),
    "reference/node.md": lambda _: typings.page(
        "Node",
        'What `import "wsguard"` gives. [Start in Node](../start/node.md) has a whole program, '
        "[the guide](../bindings-node/README.md) what is particular to Node.",
        [("", f"{NODE}index.d.ts", True), ("Options and numbers", f"{NODE}types/generated.d.ts", False)],
    ),
    "reference/node-ws.md": lambda _: typings.page(
        "wsguard/ws",
        'What `import "wsguard/ws"` gives: the interface of the package `ws`. '
        "[Moving in](../docs/moving/node.md) says how an application moves.",
        [("", f"{NODE}ws/index.d.ts", True)],
    ),
    "reference/node-testing.md": lambda _: typings.page(
        "wsguard/testing",
        'What `import "wsguard/testing"` gives to the tests of an application.',
        [("", f"{NODE}testing/index.d.ts", True)],
    ),
    "reference/rust.md": lambda _: rust(False),
    "reference/client.md": lambda _: typings.page(
        "@wsguard/client",
        "The client for browsers and Node. [Its guide](../bindings-node/client/README.md) says how it reconnects.",
        [("", f"{NODE}client/client.d.ts", True)],
    ),
}


def rust(is_made):
    """The page about the crate's documentation, which is beside the site where it was made."""
    where = (
        "The documentation of the crate, as `cargo doc` makes it, [is here](../rust/wsguard/index.html)."
        if is_made
        else "`cargo doc -p wsguard --open` shows the documentation of the crate."
    )
    return f"# Rust\n\n{where}\n\n[Start in Rust](../start/rust.md) has a whole program.\n"


# Written by others, and perhaps not there yet.
OPTIONAL = {"docs/AUDIT.md", "docs/COMMAND.md"}
DIRECTIVE = re.compile(r'^<!-- (section|file) (\S+)(?: "([^"]*)")? -->$', re.M)


class Loader(yaml.SafeLoader):
    """Keeps the name of mkdocs' slug function as it stands."""


Loader.add_multi_constructor(
    "tag:yaml.org,2002:python/", lambda loader, suffix, node: Tagged(suffix, loader.construct_mapping(node, deep=True))
)


class Tagged:
    def __init__(self, suffix, value):
        self.suffix, self.value = suffix, value


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(
    Tagged, lambda dumper, it: dumper.represent_mapping(f"tag:yaml.org,2002:python/{it.suffix}", it.value)
)


# A search leads to guides first: an interface has the same words many times.
BOOSTS = {
    "docs/": 4,
    "SECURITY": 4,
    "start/": 2,
    "reference/options": 2,
    "reference/verdicts": 2,
    "reference/": 0.5,
    "bench/": 0.5,
    "tests/": 0.3,
    "CHANGELOG": 0.3,
    "docs/HOST": 0.3,
    "docs/INTERNALS": 0.5,
    "demo/": 0.5,
}


def with_boost(path, text):
    """A page with how much it weighs in the search: the longest beginning that fits counts."""
    fitting = [begin for begin in BOOSTS if path.startswith(begin)]
    if not fitting or text.startswith("---"):
        return text
    return f"---\nsearch:\n  boost: {BOOSTS[max(fitting, key=len)]}\n---\n\n{text}"


def place_of(path):
    """Where the file of the navigation is on the site: where it is in the repository, but for two."""
    return "overview.md" if path == "README.md" else path


def chosen(entries):
    """The navigation without what is not there yet, and the files that it names."""
    kept, files = [], []
    for entry in entries:
        title, what = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(what, list):
            inner, more = chosen(what)
            kept.append({title: inner})
            files += more
        elif what not in OPTIONAL or (sources.ROOT / what).exists():
            kept.append({title: place_of(what)} if title else place_of(what))
            files.append(what)
    return kept, files


def expanded(site, path):
    """A page of pages/, with the parts of other files that it names."""
    source = f"docs/site/pages/{path}"

    def part(found):
        kind, file, heading = found.groups()
        if kind == "section":
            return site.convert(sources.section(file, heading), file, path)
        text = (sources.ROOT / file).read_text().rstrip("\n")
        return sources.fenced_text(text, sources.LANGUAGES.get(pathlib.Path(file).suffix, "text"))

    return DIRECTIVE.sub(part, site.convert((HERE / "pages" / path).read_text(), source, path))


def write(folder, site):
    for path, text in site.pages.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(with_boost(path, text))
    for path, file in site.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("work", type=pathlib.Path)
    arguments.add_argument("--rust", type=pathlib.Path)
    arguments = arguments.parse_args()
    work = arguments.work.resolve()
    shutil.rmtree(work / "src", ignore_errors=True)
    config = yaml.load((HERE / "mkdocs.yml").read_text(), Loader)
    config["nav"], files = chosen(config["nav"])

    own = {file for file in files if (HERE / "pages" / file).exists()}
    places = {file: place_of(file) for file in files if file not in own and file not in GENERATED}
    site = sources.Sources(places | {f"docs/site/pages/{file}": file for file in own})
    for file in files:
        if file in GENERATED:
            site.pages[file] = (
                rust(bool(arguments.rust))
                if file == "reference/rust.md"
                else GENERATED[file](lambda text, source, file=file: site.convert(text, source, file))
            )
        elif file in own:
            site.pages[file] = expanded(site, file)
        else:
            site.add(file)
    write(work / "src", site)
    for file in ("extra.css", "stacked.js"):
        shutil.copy(HERE / file, work / "src" / file)
    (work / "src" / "assets").mkdir()
    shutil.copy(
        HERE / "node_modules" / "iframe-worker" / "shim" / "index.js", work / "src" / "assets" / "iframe-worker.js"
    )
    if arguments.rust:
        shutil.copytree(arguments.rust, work / "src" / "rust", ignore=shutil.ignore_patterns(".lock"))
    config |= {"docs_dir": str(work / "src"), "site_dir": str(work / "html")}
    (work / "mkdocs.yml").write_text(yaml.dump(config, Dumper=Dumper, sort_keys=False))
    print(f"{len(site.pages)} pages are put together; mkdocs builds them", flush=True)
    # mkdocs-material tells of its successor at each build.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    sys.exit(
        subprocess.run([sys.executable, "-m", "mkdocs", "build", "-f", work / "mkdocs.yml"], env=environment).returncode
    )


if __name__ == "__main__":
    main()
