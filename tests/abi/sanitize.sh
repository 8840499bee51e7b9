#!/bin/sh
# The scenario suite on the C host under AddressSanitizer and UndefinedBehaviorSanitizer, and a part of it under valgrind.
# Libraries and runner are built before: cargo build --release -p wsguard-ffi -p wsguard-runner
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
release=${TARGET:-$root/target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
host=$root/tests/hosts/c/main.c
libraries="$release/libwsguard_ffi.a -lpthread -ldl -lm"

echo "--- every scenario under AddressSanitizer and UndefinedBehaviorSanitizer"
# shellcheck disable=SC2086
cc -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -I"$root/include" \
    "$host" $libraries -o "$work/host-asan"
# A report is an exit code that no scenario expects. Without a quarantine, so that the scenarios about memory can measure.
cd "$root"
export ASAN_OPTIONS=quarantine_size_mb=0:thread_local_quarantine_size_kb=0 UBSAN_OPTIONS=print_stacktrace=1
WSGUARD_C_HOST=$work/host-asan "$release/wsguard-runner" --host c

echo "--- a part of them under valgrind"
# shellcheck disable=SC2086
cc -std=c11 -g -O1 -I"$root/include" "$host" $libraries -o "$work/host"
export WSGUARD_C_HOST="valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite $work/host"
for threat in ${FILTER:-S5 A4 A7 P1}; do
    "$release/wsguard-runner" --host c --transport plain --jobs 2 --filter "$threat"
done
echo "sanitize: ok"
