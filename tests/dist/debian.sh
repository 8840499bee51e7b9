#!/bin/sh
# Unpacks packages of Debian into a folder, and installs nothing:
#   debian.sh FOLDER ARCHITECTURE PACKAGE…                    just these
#   debian.sh FOLDER ARCHITECTURE --complete PACKAGE…         and what they depend on
#   debian.sh FOLDER ARCHITECTURE --sources PACKAGE           its sources, as they are packed
# NEWER=1: from the release after Debian 12, where this is Debian 12.
# It takes no root, and no foreign architecture that dpkg knows of: apt gets lists of its own, in the target directory.
set -eu
fail() {
  echo "debian.sh: $*" >&2
  exit 1
}
folder=$1 architecture=$2
shift 2
command -v apt-get >/dev/null || fail "this needs Debian's apt-get"
apt=$CARGO_TARGET_DIR/dist/apt/$architecture${NEWER:+-newer}
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$folder"
: >>"$apt/status"
cat >"$apt/apt.conf" <<EOF
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::Retries "0";
EOF
# Other sources of this machine may have nothing for this architecture.
sources=/etc/apt/sources.list.d/debian.sources
if [ -f "$sources" ]; then
  types=deb
  [ "$1" != --sources ] || types="deb deb-src"
  sed "s/^Types:.*/Types: $types/${NEWER:+;/^Suites:/s/bookworm/trixie/g}" "$sources" >"$apt/debian.sources"
  sources=$apt/debian.sources
  printf 'Dir::Etc::SourceList "%s";\nDir::Etc::SourceParts "/dev/null";\n' "$sources" >>"$apt/apt.conf"
fi
export APT_CONFIG="$apt/apt.conf"
# What the mirror does not have shows below, where a package is not found.
apt-get update -qq >"$apt/update.log" 2>&1 || true
if [ "$1" = --complete ]; then
  shift
  set -- $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
    grep '^[a-z0-9]' | sort -u)
fi
if [ "$1" = --sources ]; then
  (cd "$folder" && apt-get source -qq --download-only "$2") || fail "Debian's mirror has no sources of $2 ($(tail -n 1 "$apt/update.log"))"
  exit 0
fi
debs=$(mktemp -d "$apt/debs.XXXXXX")
trap 'rm -rf "$debs"' EXIT
(cd "$debs" && apt-get download -qq "$@") || fail "Debian's mirror has no $* for $architecture ($(tail -n 1 "$apt/update.log"))"
for deb in "$debs"/*.deb; do
  dpkg-deb -x "$deb" "$folder"
done
