#!/bin/sh
# Builds the wheel and tries it where nothing else is: a fresh environment for each interpreter, without Pydantic, uvloop
# or a compiler.
#   test-wheel.sh [python3.10 python3.13 …]        default: every Python 3.10 to 3.14 that is found
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# = 0 ]; then
  for minor in 10 11 12 13 14; do
    for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
      # pyenv's shims exist for versions that are not active.
      if command -v "$python" > /dev/null && "$python" -c '' 2> /dev/null; then
        set -- "$@" "$python"
        break
      fi
    done
  done
fi
[ $# -gt 0 ] || { echo "test-wheel: no Python 3.10 or newer" >&2; exit 2; }

# One wheel for all of them (abi3), from the same command as .venv's: cargo has it built already, if .venv is up to date.
"$here/build.sh" --wheel "$work"
for python in "$@"; do
  rm -rf "$work/clean"
  "$python" -m venv "$work/clean"
  "$work/clean/bin/pip" install --quiet --disable-pip-version-check --no-index "$work"/wsguard-*.whl
  (cd "$work" && "$work/clean/bin/python" "$here/tests/wheel.py")
  "$work/clean/bin/wsguard" --version > /dev/null
done
