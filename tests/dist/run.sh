#!/bin/sh
# Runs one of the scripts beside it with the tools of requirements.txt: run.sh build.py …
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/../../target}
work=$CARGO_TARGET_DIR/dist
tools=$work/tools
mkdir -p "$work"
if ! cmp -s "$here/requirements.txt" "$tools/requirements.txt"; then
  rm -rf "$tools"
  "${PYTHON:-python3}" -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$tools/"
fi
script=$1
shift
PATH=$tools/bin:$PATH exec "$tools/bin/python" "$here/$script" "$@"
