#!/bin/sh
# Installs into an empty directory and builds a project against it: by pkg-config and by CMake, shared and static.
#   tests/abi/install.sh           TARGET: cargo's target directory
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/usr

for tool in cc pkg-config cmake; do
    command -v "$tool" >/dev/null || { echo "missing: $tool (Debian: apt-get install gcc pkg-config cmake)" >&2; exit 1; }
done

"$root/ffi/install.sh" "$prefix"
soname=$(readelf -d "$prefix/lib/libwsguard.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libwsguard.so.0 ] || { echo "soname is '$soname'" >&2; exit 1; }

echo "--- every symbol has the version of its ABI, and there is no other"
nm -D --defined-only --with-symbol-versions "$prefix/lib/libwsguard.so" | awk '$2 != "A" {print $3}' | sort -u >"$work/exported"
grep -E '^[a-z].* \*?wsg_[a-z0-9_]+\(' "$root/include/wsguard.h" | sed 's/(.*//; s/.*[ *]//; s/$/@@WSGUARD_0/' | sort -u \
    >"$work/declared"
diff "$work/declared" "$work/exported"

echo "--- pkg-config, shared and static"
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
# shellcheck disable=SC2046
cc "$here/consumer/app.c" -o "$work/shared" $(pkg-config --cflags --libs wsguard)
LD_LIBRARY_PATH="$prefix/lib" "$work/shared"
ldd "$work/shared" | grep -q libwsguard && readelf -d "$work/shared" | grep -q 'libwsguard.so.0'
nm -D "$work/shared" | grep -q 'wsg_server_start@WSGUARD_0'
# shellcheck disable=SC2046
cc "$here/consumer/app.c" -o "$work/static" $(pkg-config --cflags wsguard) "$prefix/lib/libwsguard.a" \
    $(pkg-config --libs-only-l --static wsguard | sed 's/-lwsguard//')
"$work/static"

echo "--- CMake, shared and static"
cmake -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLES="$root/examples/c" >"$work/log" 2>&1 &&
    cmake --build "$work/build" >>"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$work/build/app-shared"
"$work/build/app-static"

echo "--- the examples"
for example in echo chat epoll reload; do
    # shellcheck disable=SC2046
    cc -std=c11 -Wall -Wextra -Werror "$root/examples/c/$example.c" -o "$work/$example" $(pkg-config --cflags --libs wsguard)
done
# shellcheck disable=SC2046
c++ -std=c++17 -Wall -Wextra -Werror "$root/examples/c/jwt.cpp" -o "$work/jwt" $(pkg-config --cflags --libs wsguard)
# README's C start, as it stands there but for the port.
sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '/^```/d; s/127\.0\.0\.1:8080/127.0.0.1:0/' >"$work/readme.c"
# shellcheck disable=SC2046
[ ! -s "$work/readme.c" ] ||
    cc -Wall -Wextra -Werror "$work/readme.c" -o "$work/readme" $(pkg-config --cflags --libs wsguard)
"$here/examples.py" "$work" "$prefix/lib"
echo "install: ok"
