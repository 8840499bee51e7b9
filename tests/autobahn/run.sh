#!/usr/bin/env bash
# usage: tests/autobahn/run.sh [--fast] [--host NAME]... [--update] [CASE...]
#
# Runs the Autobahn test suite (517 cases: RFC 6455, and compression by RFC 7692) against the test hosts and compares each
# case with expected.json. A host is a directory tests/hosts/NAME with an executable `run`; default: every one.
#   --fast    without 216 cases of groups 9, 12 and 13 that only repeat another one with other lengths
#   --update  write expected.json from this whole run instead of comparing with it
#   CASE      patterns of Autobahn's own: 7.* or 1.1.1; only these cases are run and compared
# Exit: 0 all as expected, or no CPython 2.7 is there to run the suite; 1 a difference; 2 could not run.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$root/target}/autobahn
fast= update= hosts=() cases=()

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --fast) fast=1 ;;
    --update) update=1 ;;
    --host) [ $# -ge 2 ] || usage; hosts+=("$2"); shift ;;
    -*) usage ;;
    *) cases+=("$1") ;;
  esac
  shift
done
[ -z "$update" ] || [ -z "$fast${cases[*]-}" ] || usage

# The suite was never ported to Python 3. A pyenv shim of that name may be there without the interpreter behind it.
find_python() {
  local candidate
  for candidate in "${PYTHON27:-}" python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
    if [ -n "$candidate" ] && "$candidate" -c 'import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}
python=$(find_python)
if [ -z "$python" ]; then
  echo "autobahn: left out, no CPython 2.7 with pip was found (set PYTHON27)"
  exit 0
fi

# A user base of its own, found again by what it was made from.
export PYTHONUSERBASE PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
PYTHONUSERBASE=$cache/python-$(cksum < "$here/requirements.txt" | cut -d ' ' -f 1)
if [ ! -e "$PYTHONUSERBASE/complete" ]; then
  echo "autobahn: installing the suite into $PYTHONUSERBASE"
  mkdir -p "$PYTHONUSERBASE"
  if ! "$python" -m pip --quiet install --user --ignore-installed --no-warn-script-location \
    -r "$here/requirements.txt" > "$PYTHONUSERBASE/install.log" 2>&1; then
    tail -5 "$PYTHONUSERBASE/install.log" >&2
    echo "autobahn: the suite could not be installed" >&2
    exit 2
  fi
  touch "$PYTHONUSERBASE/complete"
fi

host_pid=
stop_host() {
  [ -n "$host_pid" ] || return 0
  exec {to_host}>&- # the end of its input drains the host
  for _ in $(seq 100); do
    kill -0 "$host_pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$host_pid" 2>/dev/null || true
  wait "$host_pid" 2>/dev/null || true
  host_pid=
}
trap stop_host EXIT
trap 'exit 130' INT TERM
trap : PIPE # a host that is gone is reported where its answer is missed

# Sets $address.
start_host() {
  local from_host line
  if [ ! -x "$root/tests/hosts/$1/run" ]; then
    echo "autobahn: there is no host $1" >&2
    exit 2
  fi
  coproc HOST { exec "$root/tests/hosts/$1/run" --quiet 2> "$2/host.log"; }
  host_pid=$HOST_PID
  exec {to_host}>&"${HOST[1]}" {from_host}<&"${HOST[0]}"
  eval "exec ${HOST[1]}>&- ${HOST[0]}<&-"
  # A host that does not start may be gone already.
  { tr -d '\n' < "$here/options.json" && echo; } >&"$to_host" 2>/dev/null || true
  line=
  read -r -t 20 line <&"$from_host" || true
  address=$(sed -n 's/.*"addr": *"\([^"]*\)".*/\1/p' <<< "$line")
  if [ -z "$address" ]; then
    echo "autobahn: the host $1 did not start: $line" >&2
    exit 2
  fi
}

[ ${#hosts[@]} -gt 0 ] || for run in "$root"/tests/hosts/*/run; do
  directory=$(dirname "$run")
  [ -x "$run" ] && hosts+=("$(basename "$directory")")
done

status=0
for host in "${hosts[@]}"; do
  out=$cache/$host
  rm -rf "$out"
  mkdir -p "$out/report"
  start_host "$host" "$out"
  "$python" "$here/cases.py" config ${fast:+--fast} "$host" "ws://$address" "$out" ${cases[@]+"${cases[@]}"}
  if ! (cd "$out" && timeout -k 5 3600 "$python" -m autobahntestsuite.wstest -m fuzzingclient -s config.json > wstest.log 2>&1); then
    tail -5 "$out/wstest.log" >&2
    echo "autobahn: the suite ended early against the host $host (see $out/wstest.log)" >&2
    exit 2
  fi
  stop_host
  "$python" "$here/cases.py" compare ${update:+--update} "$host" "$here/expected.json" "$out" || status=1
done
exit $status
