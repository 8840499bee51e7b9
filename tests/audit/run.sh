#!/bin/sh
# Examines servers of other libraries, and ours, with `wsguard audit`; arguments go to run.py: run.sh ws bun --write --table
# PYTHON names the interpreter (python3). TARGET is cargo's target folder, with the debug build of the command; the Rust host
# stands in tests/hosts (make hosts).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${TARGET:-$here/../../target}
venv=$target/audit-peers
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
(cd "$here" && npm ci --silent --no-audit --no-fund)
exec "$venv/bin/python" "$here/run.py" "$target/debug/wsguard" "$here/../hosts/rust/wsguard-host" "$@"
