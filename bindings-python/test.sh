#!/bin/sh
# Everything that is tested of the Python face alone (the scenario suite is tests/runner's): types, stub, lints, idiom
# tests, examples, and the wheel in clean environments.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
./build.sh --tests
.venv/bin/ruff format --check --quiet python tests ../examples/python ../tests/hosts/python ../tests/moving/python --config pyproject.toml
.venv/bin/ruff check --quiet python tests ../examples/python ../tests/hosts/python ../tests/moving/python --config pyproject.toml
.venv/bin/mypy
.venv/bin/python -m mypy.stubtest wsguard._wsguard --mypy-config-file pyproject.toml
.venv/bin/python -m pytest
./test-wheel.sh ${PYTHON:+"$PYTHON"}
