#!/usr/bin/env bash
# Builds the documentation site and checks it: WORK/html/index.html, which needs no server.
#   build.sh WORK [RUST]     RUST: the folder that `cargo doc` made; without it the crate's own documentation is left out
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
say() { echo "   the site: $*"; }

say "1/4 tools"
[ -x "$work/venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
(cd "$here" && npm ci --ignore-scripts --silent --no-audit --no-fund)
say "2/4 pages, from the documents and the sources"
"$work/venv/bin/python" "$here/build.py" "$work" ${2:+--rust "$2"}
say "3/4 its parts by themselves"
(cd "$here" && "$work/venv/bin/python" -m unittest --quiet check/test_*.py)
say "4/4 links, the search, twenty questions and a phone, in a browser"
node "$here/check/check.mjs" "$work/html"
say "done: $work/html/index.html"
