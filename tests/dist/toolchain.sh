#!/bin/sh
# Makes targets possible that the installed compiler has no standard library for, on Debian: its own Rust of another version,
# with the sources of the standard library, which cargo then compiles (build-std). Nothing is installed: the packages are
# unpacked into the target directory. Where `rustup target add` works, that is the better way.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
rust=${CARGO_TARGET_DIR:-$here/../../target}/dist/rust
# rustc-web is the Rust that Debian keeps up to date for browsers. Its LLVM is a package of its own.
packages="rustc-web libstd-rust-web-dev rust-web-src"
command -v apt-get >/dev/null || { echo "toolchain: this needs Debian's apt-get" >&2; exit 1; }
rm -rf "$rust"
mkdir -p "$rust/debs"
rust=$(cd "$rust" && pwd)
cd "$rust/debs"
for package in $packages; do
  apt-get download -qq "$package"
done
# What the compiler's own library needs beyond what every Debian has.
std=$(dpkg-deb -f libstd-rust-web-dev_*.deb Depends | grep -o 'libstd-rust-web-[0-9.]*' | head -n 1)
apt-get download -qq "$std"
llvm=$(dpkg-deb -f "$std"_*.deb Depends | grep -o 'libllvm[0-9]*' | head -n 1)
apt-get download -qq "$llvm"
for package in *.deb; do
  dpkg-deb -x "$package" "$rust"
done
cd "$rust"
rm -r debs
library=$rust/usr/lib/$(uname -m)-linux-gnu
printf '#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec %s/usr/bin/rustc "$@"\n' "$library" "$rust" >"$rust/rustc"
chmod +x "$rust/rustc"
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
have=$("$rust/rustc" -V | cut -d' ' -f2)
[ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] || {
  rm "$rust/rustc"
  echo "toolchain: Debian has Rust $have; wsguard needs $wanted" >&2
  exit 1
}
echo "Rust $have, with the sources of its standard library, in $rust"
