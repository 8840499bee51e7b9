#!/bin/sh
# Installs the C face: headers, both libraries, wsguard.pc and the CMake package.
#   ffi/install.sh [PREFIX]        default /usr/local; DESTDIR is put before it; TARGET: cargo's target directory
# `make install PREFIX=…` builds first. Nothing is compiled here.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=${1:-/usr/local}
to=${DESTDIR:-}$prefix
release=${TARGET:-$here/target}/release
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | head -n 1)
major=${version%%.*}

# The names of the shared library, and what a program that links the static one needs besides.
case $(uname -s) in
    Darwin)
        built=libwsguard_ffi.dylib link=libwsguard.dylib loaded=libwsguard.$major.dylib shared=libwsguard.$version.dylib
        private="" debug=-S ;;
    *)
        built=libwsguard_ffi.so link=libwsguard.so loaded=libwsguard.so.$major shared=libwsguard.so.$version
        private="-lpthread -ldl -lm" debug=--strip-debug ;;
esac

for library in $built libwsguard_ffi.a; do
    [ -f "$release/$library" ] || { echo "$release/$library is not built: cargo build --release -p wsguard-ffi" >&2; exit 1; }
done

mkdir -p "$to/include" "$to/lib/pkgconfig" "$to/lib/cmake/wsguard"
install -m 644 "$here/include/wsguard.h" "$here/include/wsguard.hpp" "$to/include/"
install -m 644 "$release/libwsguard_ffi.a" "$to/lib/libwsguard.a"
case $(uname -s) in
    Darwin)
        install -m 755 "$release/$built" "$to/lib/$shared"
        install_name_tool -id "$prefix/lib/$loaded" "$to/lib/$shared" ;;
    *)
        # rustc gives no versions to symbols: the linker makes the library anew, from the same objects.
        ${CC:-cc} -shared -Wl,-soname,"$loaded" -Wl,--version-script="$here/ffi/wsguard.map" -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack \
            -Wl,--whole-archive "$release/libwsguard_ffi.a" -Wl,--no-whole-archive $private -o "$to/lib/$shared" ;;
esac
ln -sf "$shared" "$to/lib/$loaded"
ln -sf "$loaded" "$to/lib/$link"
strip $debug "$to/lib/libwsguard.a" "$to/lib/$shared" 2>/dev/null || true

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

cat > "$to/lib/cmake/wsguard/wsguard-config.cmake" <<EOF
# find_package(wsguard) gives wsguard::wsguard (shared) and wsguard::static.
get_filename_component(_wsguard_prefix "\${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
include(CMakeFindDependencyMacro)
find_dependency(Threads)
if(NOT TARGET wsguard::wsguard)
  add_library(wsguard::wsguard SHARED IMPORTED)
  set_target_properties(wsguard::wsguard PROPERTIES
    IMPORTED_LOCATION "\${_wsguard_prefix}/lib/$link"
    INTERFACE_INCLUDE_DIRECTORIES "\${_wsguard_prefix}/include")
  add_library(wsguard::static STATIC IMPORTED)
  set_target_properties(wsguard::static PROPERTIES
    IMPORTED_LOCATION "\${_wsguard_prefix}/lib/libwsguard.a"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;\${CMAKE_DL_LIBS};m"
    INTERFACE_INCLUDE_DIRECTORIES "\${_wsguard_prefix}/include")
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
