#!/bin/sh
# The C ABI: header, symbols, enum values, misuse, leaks, threads, chaos. `cargo build --release -p wsguard-ffi` first.
#   tests/abi/run.sh               TARGET: cargo's target directory; CHAOS_SECONDS (10), CHAOS_SEED (another each time)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
release=${TARGET:-$root/target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
include=-I$root/include
warnings="-Wall -Wextra -Werror -pedantic"
libraries="$release/libwsguard_ffi.a -lpthread -ldl -lm"

# A program that hangs is named, long before the whole part is given up.
within() {
    minutes=$1
    shift
    timeout --foreground "${minutes}m" "$@" || {
        status=$?
        echo "*** $*: exit status $status (124: not done after $minutes min)" >&2
        exit "$status"
    }
}

echo "--- the header is C99 and C++17"
# shellcheck disable=SC2086
{
    cc -std=c99 $warnings "$include" -c "$here/header.c" -o "$work/header.o"
    c++ -std=c++17 $warnings -Wshadow "$include" -x c++ -c "$here/header.c" -o "$work/header.o"
}

echo "--- exported symbols are the header's"
nm -D --defined-only "$release/libwsguard_ffi.so" | awk '{print $3}' | sort -u >"$work/exported"
# Declarations only: what stands at the start of a line behind its type.
grep -E '^[a-z].* \*?wsg_[a-z0-9_]+\(' "$root/include/wsguard.h" | sed 's/(.*//; s/.*[ *]//' | sort -u >"$work/declared"
diff "$work/declared" "$work/exported"

echo "--- enum values are what they always were"
{
    echo '#include "wsguard.h"'
    sed 's/^\([A-Z0-9_]*\) \(.*\)$/_Static_assert(\1 == \2, "\1");/' "$here/enums.txt"
} >"$work/enums.c"
cc -std=c11 "$include" -c "$work/enums.c" -o "$work/enums.o"

echo "--- misuse, ends, hostile arguments, threads, C++ and leaks under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer"
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
"$here/faces.py" "$work/faces.h"
for program in misuse closed over delivered compressed told protocols setters promises policy reach adopt ends fuzz threads cycles faces; do
    # shellcheck disable=SC2086
    cc -std=c11 -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-omit-frame-pointer "$include" "-I$work" \
        "$here/$program.c" $libraries -o "$work/$program"
    within 5 "$work/$program"
done
for program in hpp chaos exceptions; do
    # shellcheck disable=SC2086
    c++ -std=c++17 -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-omit-frame-pointer "$include" \
        "$here/$program.cpp" $libraries -o "$work/$program-cpp"
done

within 5 "$work/exceptions-cpp"

echo "--- two nodes over a real Redis"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no >"$work/redis.log" &
redis=$!
trap 'kill "$redis" 2>/dev/null || :; rm -rf "$work"' EXIT
until grep -q "Ready to accept connections" "$work/redis.log"; do kill -0 "$redis"; done
# shellcheck disable=SC2086
cc -std=c11 -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-omit-frame-pointer "$include" "$here/cluster.c" \
    $libraries -o "$work/cluster"
within 5 "$work/cluster" "$port"

echo "--- two copies of the library in one process"
cp "$release/libwsguard_ffi.so" "$work/one.so"
cp "$release/libwsguard_ffi.so" "$work/two.so"
cc -std=c11 -g -O1 -Wall -Wextra -Werror "$include" "$here/two.c" -lpthread -ldl -o "$work/two"
within 5 "$work/two" "$work/one.so" "$work/two.so"

echo "--- C++ without exceptions"
# shellcheck disable=SC2086
c++ -std=c++17 -g -O1 -Wall -Wextra -Werror -fno-exceptions "$include" "$here/no_exceptions.cpp" $libraries -o "$work/no-exceptions"
within 5 "$work/no-exceptions"

chaos_minutes=$((${CHAOS_SECONDS:-10} / 30 + 5))
echo "--- chaos: random peers, handlers that fail, every command from several threads"
# shellcheck disable=SC2086
cc -std=c11 -g -O1 -Wall -Wextra -Werror "$include" "$here/chaos.c" $libraries -o "$work/chaos"
within "$chaos_minutes" "$work/chaos" "${CHAOS_SECONDS:-10}" ${CHAOS_SEED:-}
within "$chaos_minutes" "$work/chaos-cpp" "${CHAOS_SECONDS:-10}" ${CHAOS_SEED:-}

echo "--- C++ under ThreadSanitizer, which looks at the program and wsguard.hpp; the library is not instrumented"
ln -s "$release/libwsguard_ffi.so" "$work/libwsguard.so.0"
c++ -std=c++17 -g -O1 -fsanitize=thread "$include" "$here/hpp.cpp" "$work/libwsguard.so.0" -o "$work/hpp-threads"
within 5 env "LD_LIBRARY_PATH=$work" TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1 "$work/hpp-threads"

echo "--- forks, without a sanitizer: its allocator does not survive one while other threads allocate"
# shellcheck disable=SC2086
cc -std=c11 -g -O1 -Wall -Wextra -Werror "$include" "$here/fork.c" $libraries -o "$work/fork"
within 5 "$work/fork"
within 5 "$work/hpp-cpp"

echo "--- leaks again, under valgrind"
if command -v valgrind >/dev/null; then
    # shellcheck disable=SC2086
    cc -std=c11 -g -O1 "$include" "$here/cycles.c" $libraries -o "$work/cycles-plain"
    within 15 valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=9 \
        "$work/cycles-plain" 100000 200
else
    echo "missing: valgrind (Debian: apt-get install valgrind)" >&2
    exit 1
fi
echo "abi: ok"
