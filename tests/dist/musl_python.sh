#!/bin/sh
# Builds a Python for musl, which no package registry has, to load the wheel into: Debian's sources of it, by Zig's C compiler.
#   musl_python.sh FOLDER LOADER ARCHITECTURE       FOLDER/bin/python3 is run by LOADER, musl's libc.so
# It is for this processor: its configure script runs what it has compiled.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1 loader=$2 architecture=$3
work=$folder.building
rm -rf "$work"
mkdir -p "$work/zig"
trap 'rm -rf "$work"' EXIT
NEWER=1 "$here/debian.sh" "$work/debian" "$architecture" --sources python3.13
tar -xJf "$work"/debian/python3.13_*.orig.tar.xz -C "$work" --strip-components=1
cat >"$work/zig/cc" <<EOF
#!/bin/sh
exec python3 -m ziglang cc -target $(uname -m)-linux-musl -fno-sanitize=all -Wno-date-time "\$@"
EOF
for tool in ar ranlib; do
  printf '#!/bin/sh\nexec python3 -m ziglang %s "$@"\n' $tool >"$work/zig/$tool"
done
chmod +x "$work"/zig/*
cd "$work"
# Libraries that this machine has are not for musl. Without -dynamic Zig links everything in, and then nothing can be loaded.
# Without -fPIC the program gets a copy of `environ`, which musl, to whom it is `__environ`, never fills.
PKG_CONFIG_LIBDIR="$work/none" LDFLAGS="-dynamic -Wl,--dynamic-linker=$loader" ./configure --prefix="$folder" --without-ensurepip --disable-test-modules \
  CC="$work/zig/cc" AR="$work/zig/ar" RANLIB="$work/zig/ranlib" OPT="-O1 -fPIC" ac_cv_prog_cc_g=no >configure.log 2>&1 ||
  { tail -n 5 configure.log >&2; exit 1; }
make -j2 >make.log 2>&1 && make install >install.log 2>&1 || { tail -n 5 make.log >&2; exit 1; }
