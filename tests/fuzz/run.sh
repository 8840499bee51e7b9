#!/usr/bin/env bash
# usage: tests/fuzz/run.sh [SECONDS] [TARGET...]
#
# Builds the fuzz targets (libFuzzer, on the stable compiler) and runs each for SECONDS (default 60); default: every
# target. As many run at once as there are cores, at most FUZZ_JOBS (default 2). What a run finds of interest stays in
# target/fuzz/corpus and is the next run's start, beside the seeds in tests/fuzz/corpus; crashing inputs go to
# target/fuzz/artifacts. To run one of them again: target/fuzz/.../release/TARGET FILE (the failure prints the line).
# Exit: 0 no crash; 1 a crash, a hang of 10 s, or over 2 GiB of memory; 2 could not build.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${FUZZ_DIR:-$root/target/fuzz}
export CARGO_TARGET_DIR=$work

seconds=60
case ${1-} in
  '' | [!0-9]*) ;;
  *[!0-9]*) sed -n '2s/^# //p' "$0" >&2; exit 2 ;;
  *) seconds=$1; shift ;;
esac
[ $# -gt 0 ] || set -- $(cd "$here/targets" && ls -- *.rs | sed 's/\.rs$//')
for target in "$@"; do
  [ -f "$here/targets/$target.rs" ] || { echo "fuzz: there is no target $target" >&2; exit 2; }
done

# As `cargo fuzz --sanitizer none` does it. Build scripts stay plain because a target platform is named.
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares'
platform=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$(echo $coverage) cargo build --quiet --locked --release --target "$platform" \
  --manifest-path "$here/Cargo.toml" $(printf -- '--bin %s ' "$@") || { echo "fuzz: could not build" >&2; exit 2; }
binaries=$work/$platform/release

running=
stop() {
  for process in $running; do kill "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT TERM

# Ends as the fuzzer does. `exec`: what is killed is the fuzzer, not a shell before it.
fuzz() {
  local options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1)
  [ ! -f "$here/dictionaries/$1.dict" ] || options+=(-dict="$here/dictionaries/$1.dict")
  mkdir -p "$work/corpus/$1" "$work/artifacts" "$work/logs"
  exec "$binaries/$1" "${options[@]}" -artifact_prefix="$work/artifacts/$1-" "$work/corpus/$1" "$here/corpus/$1" \
    > "$work/logs/$1.log" 2>&1
}

passed=0 failed=0
# Waits for the oldest run and says what became of it.
reap() {
  local process=${running%% *} target=${started%% *} log input
  running=${running#* } started=${started#* }
  log=$work/logs/$target.log
  if wait "$process"; then
    passed=$((passed + 1))
    echo "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
      "coverage $(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)"
  else
    failed=$((failed + 1))
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    echo "fuzz $target: FAILED, see $log"
    grep -m 3 -A 1 -E "panicked at|ERROR: libFuzzer" "$log" || tail -3 "$log"
    [ -z "$input" ] || echo "fuzz $target: again with: $binaries/$target $input"
  fi
}

jobs=$(nproc)
[ "$jobs" -le "${FUZZ_JOBS:-2}" ] || jobs=${FUZZ_JOBS:-2}
started= busy=0
for target in "$@"; do
  if [ "$busy" -ge "$jobs" ]; then
    reap
    busy=$((busy - 1))
  fi
  fuzz "$target" &
  running="$running$! " started="$started$target "
  busy=$((busy + 1))
done
while [ "$busy" -gt 0 ]; do
  reap
  busy=$((busy - 1))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
