#!/bin/sh
# Packs the C face for others: an archive to unpack anywhere and, where Debian has the architecture, two packages.
#   ffi/pack.sh OUT NAME LICENCES BILL [DEBIAN_ARCHITECTURE]
# NAME is the target as archives are called (x86_64-linux-gnu). LICENCES and BILL: what is linked in, its licences and its bill
# of materials. TARGET, CC, STRIP, LDLIBS: as install.sh takes them. SOURCE_DATE_EPOCH: the time of every file.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
out=$1 name=$2 licences=$3 bill=$4 debian=${5:-}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | head -n 1)
maintainer=$(sed -n 's/^maintainer = "\([^"]*\)".*/\1/p' "$here/Cargo.toml")
: "${SOURCE_DATE_EPOCH:=$(date +%s)}"
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# Licences, examples and the bill of materials.
documents() {
    mkdir -p "$1/examples"
    cp "$here/LICENSE-MIT" "$here/LICENSE-APACHE" "$licences" "$1/"
    cp "$bill" "$1/wsguard.cdx.json"
    cp "$here"/examples/c/*.c "$here"/examples/c/*.cpp "$here/tests/abi/consumer/CMakeLists.txt" "$1/examples/"
    # In the repository the programs are in two folders.
    sed -i 's/^add_executable(app-shared app.c)/add_executable(app-shared echo.c)/; s/^add_executable(app-static app.c)/add_executable(app-static echo.c)/; s/\${EXAMPLES}\///' \
        "$1/examples/CMakeLists.txt"
}

# --- the archive --------------------------------------------------------------------------------------------------------
tree=$work/wsguard-$version-$name
"$here/ffi/install.sh" "$tree" >/dev/null
documents "$tree/share/doc/wsguard"
mv "$tree/share/doc/wsguard/LICENSE-MIT" "$tree/share/doc/wsguard/LICENSE-APACHE" "$tree/share/doc/wsguard/$(basename "$licences")" "$tree/"
cp "$here/ffi/README.md" "$tree/"
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work" -cf - "$(basename "$tree")" |
    gzip -9n >"$out/wsguard-$version-$name.tar.gz"
echo "wsguard-$version-$name.tar.gz"
[ -n "$debian" ] || exit 0

# --- Debian's packages: what programs run with, what they are built with --------------------------------------------------
multiarch=$name
major=${version%%.*}
staged=$work/staged
DESTDIR=$staged LIBDIR=lib/$multiarch "$here/ffi/install.sh" /usr >/dev/null
run=$work/run dev=$work/dev
mkdir -p "$run/usr/lib/$multiarch" "$dev/usr"
for file in "$staged/usr/lib/$multiarch"/libwsguard.so."$major"*; do mv "$file" "$run/usr/lib/$multiarch/"; done
"${STRIP:-strip}" --strip-unneeded "$run/usr/lib/$multiarch"/libwsguard.so."$version"
chmod 644 "$run/usr/lib/$multiarch"/libwsguard.so."$version"
mv "$staged/usr/include" "$staged/usr/lib" "$dev/usr/"

# In KiB as dpkg counts, whatever the file system: each file rounded up, one for each folder and link.
size() {
    find "$1" -path "$1/DEBIAN" -prune -o -printf '%y %s\n' |
        awk '{ sum += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print sum }'
}

# Writes DEBIAN/control and what Debian's policy asks for, and packs: TREE PACKAGE CONTROL-LINES
package() {
    tree=$1 package=$2
    documents=$tree/usr/share/doc/$package
    mkdir -p "$tree/DEBIAN" "$documents"
    {
        printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: wsguard\n\n'
        printf 'Files: *\nCopyright: 2026 The wsguard authors\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n'
        sed '1,/^Permission/{/^Permission/!d}; s/^$/./; s/^/ /' "$here/LICENSE-MIT"
        printf '\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n'
    } >"$documents/copyright"
    gzip -9nc "$licences" >"$documents/$(basename "$licences").gz"
    printf 'wsguard (%s-1) unstable; urgency=medium\n\n  * CHANGELOG.md of the project has what is new.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9nc >"$documents/changelog.Debian.gz"
    cat >"$tree/DEBIAN/control" <<EOF
Package: $package
Source: wsguard
Version: $version-1
Architecture: $debian
Maintainer: $maintainer
Multi-Arch: same
Priority: optional
Installed-Size: $(size "$tree")
$3
EOF
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$tree" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/${package}_$version-1_$debian.deb" >/dev/null
    echo "${package}_$version-1_$debian.deb"
}

mkdir -p "$run/DEBIAN" "$dev/usr/share/doc/libwsguard-dev"
echo "activate-noawait ldconfig" >"$run/DEBIAN/triggers"
echo "libwsguard $major libwsguard$major (>= $version)" >"$run/DEBIAN/shlibs"
cp -r "$here/examples/c" "$dev/usr/share/doc/libwsguard-dev/examples"
package "$run" "libwsguard$major" "Section: libs
Depends: libc6 (>= 2.17)
Description: WebSocket servers that are safe by default (library)
 A policy of origins, authentication, rates, sizes and the form of messages is
 enforced on native threads, before the application sees a byte.
 .
 This package has the shared library."
package "$dev" libwsguard-dev "Section: libdevel
Depends: libwsguard$major (= $version-1), libc6-dev
Description: WebSocket servers that are safe by default (development files)
 A policy of origins, authentication, rates, sizes and the form of messages is
 enforced on native threads, before the application sees a byte.
 .
 This package has the headers for C and C++, the static library, examples, and
 files for pkg-config and CMake."
