#!/usr/bin/env bash
# Makes sure that Debian programs are there: packages.sh chromium nginx …
# As root it installs what is missing; otherwise it says what to install, and fails.
set -eu
missing=()
for program in "$@"; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "missing: ${missing[*]} (Debian packages of the same names); install them and try again" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
