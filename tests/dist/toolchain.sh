#!/bin/sh
# Makes targets possible that the installed compiler has no standard library for, on Debian: its own Rust of another version,
# with the sources of the standard library, which cargo then compiles (build-std). Nothing is installed: the packages are
# unpacked into the target directory. Where `rustup target add` works, that is the better way.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${CARGO_TARGET_DIR:=$here/../../target}/dist"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
export CARGO_TARGET_DIR
rust=$CARGO_TARGET_DIR/dist/rust
fail() {
  rm -rf "$rust"
  echo "toolchain: $*" >&2
  exit 1
}
architecture=$(dpkg --print-architecture 2>/dev/null) || fail "this needs Debian"
unpack() {
  "$here/debian.sh" "$rust" "$architecture" "$@" || fail "no second toolchain"
}
rm -rf "$rust"
# rustc-web is the Rust that Debian keeps up to date for browsers. The names of its library and of its LLVM have versions.
needed() {
  APT_CONFIG=$CARGO_TARGET_DIR/dist/apt/$architecture/apt.conf apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)$/\1/p" | head -n 1
}
unpack rustc-web libstd-rust-web-dev rust-web-src
std=$(needed libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')
unpack "$std" "$(needed "$std" 'libllvm[0-9]*')"
library=$rust/usr/lib/$(uname -m)-linux-gnu
printf '#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec %s/usr/bin/rustc "$@"\n' "$library" "$rust" >"$rust/rustc"
chmod +x "$rust/rustc"
have=$("$rust/rustc" -V) || fail "Debian's Rust does not start here"
have=$(echo "$have" | cut -d' ' -f2)
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
[ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] || fail "Debian has Rust $have; wsguard needs $wanted"
echo "Rust $have, with the sources of its standard library, in $rust"
