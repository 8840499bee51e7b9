#!/usr/bin/env bash
# Builds the addon from source and puts it where the package finds it: wsguard.PLATFORM.node beside package.json.
# `--addon-only` leaves the development dependencies (tests, typings) alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" != --addon-only ]; then
  (cd "$here" && npm ci --ignore-scripts --silent --no-audit --no-fund)
fi
if ! command -v cargo >/dev/null 2>&1; then
  echo "wsguard: building the addon needs Rust (cargo); install it from rustup.rs" >&2
  exit 1
fi
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --locked --manifest-path "$here/Cargo.toml"
case $(uname -s) in
  Darwin) built=libwsguard_node.dylib ;;
  MINGW* | MSYS* | CYGWIN*) built=wsguard_node.dll ;;
  *) built=libwsguard_node.so ;;
esac
addon=$(cd "$here" && node -p 'require("./lib/native.js").localFile()')
# Another process may have the old file mapped: a new one takes its place.
cp "$target/release/$built" "$addon.new"
if command -v strip >/dev/null 2>&1; then
  strip -S "$addon.new" 2>/dev/null || true
fi
mv -f "$addon.new" "$addon"
