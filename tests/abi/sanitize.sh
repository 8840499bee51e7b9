#!/bin/sh
# The scenario suite on the C host under AddressSanitizer and UndefinedBehaviorSanitizer, and a part of it under valgrind; chaos
# under both, and under ThreadSanitizer. CHAOS_SECONDS (10), CHAOS_SEED (another each time).
# Libraries and runner are built before: cargo build --release -p wsguard-ffi -p wsguard-runner
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
release=${TARGET:-$root/target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
host=$root/tests/hosts/c/main.c
libraries="$release/libwsguard_ffi.a -lpthread -ldl -lm"

chaos="${CHAOS_SECONDS:-10} ${CHAOS_SEED:-}"
include=-I$root/include
checks="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

echo "--- chaos under AddressSanitizer and UndefinedBehaviorSanitizer"
# shellcheck disable=SC2086
cc -std=c11 -g -O1 $checks "$include" "$here/chaos.c" $libraries -o "$work/chaos-asan"
# shellcheck disable=SC2086
c++ -std=c++17 -g -O1 $checks "$include" "$here/chaos.cpp" $libraries -o "$work/chaos-asan-cpp"
# shellcheck disable=SC2086
"$work/chaos-asan" $chaos && "$work/chaos-asan-cpp" $chaos

# What compiled schemas keep for the life of the process is reached by pointers into it: "possibly lost" says nothing here.
echo "--- chaos under valgrind"
# shellcheck disable=SC2086
cc -std=c11 -g -O1 "$include" "$here/chaos.c" $libraries -o "$work/chaos"
# shellcheck disable=SC2086
c++ -std=c++17 -g -O1 "$include" "$here/chaos.cpp" $libraries -o "$work/chaos-cpp"
for program in chaos chaos-cpp; do
    # shellcheck disable=SC2086
    valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
        --fair-sched=yes "$work/$program" $chaos
done

# It sees what the program and wsguard.hpp do on their own threads and on the library's: handlers, `failed`, the inline handler
# with what it shares. What the library does inside is Rust's to prove; it is not instrumented and not looked at.
echo "--- chaos in C++ under ThreadSanitizer"
ln -s "$release/libwsguard_ffi.so" "$work/libwsguard.so.0"
c++ -std=c++17 -g -O1 -fsanitize=thread "$include" "$here/chaos.cpp" "$work/libwsguard.so.0" -o "$work/chaos-threads"
# shellcheck disable=SC2086
LD_LIBRARY_PATH=$work TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1 "$work/chaos-threads" $chaos

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
