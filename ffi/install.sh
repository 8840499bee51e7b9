#!/bin/sh
# Installs the C face: headers, both libraries, wsguard.pc and the CMake package.
#   ffi/install.sh [PREFIX]        default /usr/local; DESTDIR is put before it; TARGET: cargo's target directory
# `make install PREFIX=…` builds first. Nothing is built here.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=${1:-/usr/local}
to=${DESTDIR:-}$prefix
release=${TARGET:-$here/target}/release
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | head -n 1)
major=${version%%.*}
# What a program that links the static library needs besides.
private="-lpthread -ldl -lm"

for library in libwsguard_ffi.so libwsguard_ffi.a; do
    [ -f "$release/$library" ] || { echo "$release/$library is not built: cargo build --release -p wsguard-ffi" >&2; exit 1; }
done

mkdir -p "$to/include" "$to/lib/pkgconfig" "$to/lib/cmake/wsguard"
install -m 644 "$here/include/wsguard.h" "$here/include/wsguard.hpp" "$to/include/"
install -m 644 "$release/libwsguard_ffi.a" "$to/lib/libwsguard.a"
install -m 755 "$release/libwsguard_ffi.so" "$to/lib/libwsguard.so.$version"
ln -sf "libwsguard.so.$version" "$to/lib/libwsguard.so.$major"
ln -sf "libwsguard.so.$major" "$to/lib/libwsguard.so"
strip --strip-debug "$to/lib/libwsguard.a" "$to/lib/libwsguard.so.$version" 2>/dev/null || true

cat > "$to/lib/pkgconfig/wsguard.pc" <<EOF
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: wsguard
Description: WebSocket servers that are safe by default
Version: $version
Libs: -L\${libdir} -lwsguard
Libs.private: $private
Cflags: -I\${includedir}
EOF

cat > "$to/lib/cmake/wsguard/wsguard-config.cmake" <<'EOF'
# find_package(wsguard) gives wsguard::wsguard (shared) and wsguard::static.
get_filename_component(_wsguard_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
include(CMakeFindDependencyMacro)
find_dependency(Threads)
if(NOT TARGET wsguard::wsguard)
  add_library(wsguard::wsguard SHARED IMPORTED)
  set_target_properties(wsguard::wsguard PROPERTIES
    IMPORTED_LOCATION "${_wsguard_prefix}/lib/libwsguard.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_wsguard_prefix}/include")
  add_library(wsguard::static STATIC IMPORTED)
  set_target_properties(wsguard::static PROPERTIES
    IMPORTED_LOCATION "${_wsguard_prefix}/lib/libwsguard.a"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m"
    INTERFACE_INCLUDE_DIRECTORIES "${_wsguard_prefix}/include")
endif()
unset(_wsguard_prefix)
EOF

cat > "$to/lib/cmake/wsguard/wsguard-config-version.cmake" <<EOF
set(PACKAGE_VERSION "$version")
# Before 1.0 a program fits the versions of its minor number, later those of its major number.
string(REGEX MATCH "^(0[.][0-9]+|[0-9]+)" _wsguard_own "\${PACKAGE_VERSION}")
string(REGEX MATCH "^(0[.][0-9]+|[0-9]+)" _wsguard_asked "\${PACKAGE_FIND_VERSION}")
if(PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION OR NOT _wsguard_own STREQUAL _wsguard_asked)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
EOF

echo "wsguard $version installed in $to"
