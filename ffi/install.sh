#!/bin/sh
# Installs the C face: headers, both libraries, wsguard.pc and the CMake package.
#   ffi/install.sh [PREFIX]        default /usr/local; DESTDIR is put before it; TARGET: cargo's target directory
# LIBDIR: where libraries go below PREFIX (lib; Debian: lib/x86_64-linux-gnu). CC and STRIP: those of the target. LDLIBS: what CC
# does not link by itself (gcc and clang link the unwinder of panics; Zig does not).
# What it writes names no place: the whole of PREFIX can be moved.
# `make install PREFIX=…` builds first. Nothing is compiled here.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=${1:-/usr/local}
to=${DESTDIR:-}$prefix
libdir=${LIBDIR:-lib}
lib=$to/$libdir
# From where the .pc file and the CMake files are, back to the prefix.
up=$(printf '%s' "$libdir" | sed 's,[^/][^/]*,..,g')
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

mkdir -p "$to/include" "$lib/pkgconfig" "$lib/cmake/wsguard"
install -m 644 "$here/include/wsguard.h" "$here/include/wsguard.hpp" "$to/include/"
install -m 644 "$release/libwsguard_ffi.a" "$lib/libwsguard.a"
case $(uname -s) in
    Darwin)
        install -m 755 "$release/$built" "$lib/$shared"
        install_name_tool -id "$prefix/$libdir/$loaded" "$lib/$shared" ;;
    *)
        # rustc gives no versions to symbols: the linker makes the library anew, from the same objects.
        ${CC:-cc} -shared -Wl,-soname,"$loaded" -Wl,--version-script="$here/ffi/wsguard.map" -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack \
            -Wl,--whole-archive "$release/libwsguard_ffi.a" -Wl,--no-whole-archive $private ${LDLIBS:-} -o "$lib/$shared" ;;
esac
ln -sf "$shared" "$lib/$loaded"
ln -sf "$loaded" "$lib/$link"
for file in "$lib/libwsguard.a" "$lib/$shared"; do
    ${STRIP:-strip} $debug "$file" 2>/dev/null || true
done

cat > "$lib/pkgconfig/wsguard.pc" <<EOF
prefix=\${pcfiledir}/../$up
libdir=\${prefix}/$libdir
includedir=\${prefix}/include

Name: wsguard
Description: WebSocket servers that are safe by default
Version: $version
Libs: -L\${libdir} -lwsguard
Libs.private: $private
Cflags: -I\${includedir}
EOF

cat > "$lib/cmake/wsguard/wsguard-config.cmake" <<EOF
# find_package(wsguard) gives wsguard::wsguard (shared) and wsguard::static.
get_filename_component(_wsguard_prefix "\${CMAKE_CURRENT_LIST_DIR}/../../$up" REALPATH)
include(CMakeFindDependencyMacro)
find_dependency(Threads)
if(NOT TARGET wsguard::wsguard)
  add_library(wsguard::wsguard SHARED IMPORTED)
  set_target_properties(wsguard::wsguard PROPERTIES
    IMPORTED_LOCATION "\${_wsguard_prefix}/$libdir/$link"
    INTERFACE_INCLUDE_DIRECTORIES "\${_wsguard_prefix}/include")
  add_library(wsguard::static STATIC IMPORTED)
  set_target_properties(wsguard::static PROPERTIES
    IMPORTED_LOCATION "\${_wsguard_prefix}/$libdir/libwsguard.a"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;\${CMAKE_DL_LIBS};m"
    INTERFACE_INCLUDE_DIRECTORIES "\${_wsguard_prefix}/include")
endif()
unset(_wsguard_prefix)
EOF

cat > "$lib/cmake/wsguard/wsguard-config-version.cmake" <<EOF
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
