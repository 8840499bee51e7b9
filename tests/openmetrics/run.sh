#!/bin/sh
# Scrapes a running server and reads its metrics with the parser of Prometheus' own Python client; tries the alerts, where
# Prometheus' own tool is there.
# PYTHON names the interpreter (python3); CARGO_TARGET_DIR is respected.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
venv=$target/openmetrics
if command -v promtool >/dev/null; then
  promtool test rules "$here/alerts.yml"
else
  echo "promtool (Debian: prometheus) is not there: the alerts are not tried" >&2
fi
cargo build --quiet --locked -p wsguard --example metrics --manifest-path "$here/../../Cargo.toml"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
exec "$venv/bin/python" "$here/check.py" "$target/debug/examples/metrics"
