#!/bin/sh
# Makes .venv beside this script, with the tools of requirements.txt and the package itself, built in release mode.
#   build.sh                  what the test host needs
#   build.sh --tests          also what the tests and examples need
#   build.sh --wheel FOLDER   not the package itself, but its wheel in FOLDER
# PYTHON names the interpreter (python3); CARGO_TARGET_DIR is respected.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/.venv
python=${PYTHON:-python3}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
install -r "$here/requirements.txt"
[ "${1:-}" != --tests ] || install -r "$here/requirements-test.txt"

# Without build isolation: cargo's own cache decides what is built again.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/../target}
export CARGO_TARGET_DIR
if [ "${1:-}" = --wheel ]; then
  wheels=$2
else
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' EXIT
fi
"$venv/bin/maturin" build --quiet --release --locked --interpreter "$venv/bin/python" \
  --manifest-path "$here/Cargo.toml" --out "$wheels"
[ "${1:-}" = --wheel ] || install --force-reinstall --no-deps "$wheels"/*.whl
