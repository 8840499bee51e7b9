#!/bin/sh
# Applications of FastAPI, Starlette, Litestar and Django Channels under uvicorn and gunicorn, each with uvicorn's own
# WebSockets and with wsguard's. Further arguments go to pytest: run.sh -k channels
# PYTHON names the interpreter (python3); CARGO_TARGET_DIR is respected.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../../target}
venv=$target/moving
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
CARGO_TARGET_DIR=$target "$here/../../../bindings-python/build.sh" --wheel "$wheels"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheels"/*.whl
cd "$here"
"$venv/bin/python" -m pytest -q -p no:cacheprovider \
  -o faulthandler_timeout=120 -o faulthandler_exit_on_timeout=true "$@"
