#!/bin/sh
# Uploads what `make dist` has built, and goes on where it stopped: what a registry has already is left out.
#   upload.sh crates    the crates, from the commit that is checked out, each after those that it depends on
#   upload.sh npm       the addons first: `wsguard` asks for exactly these
# DRY_RUN=1 prints the commands and uploads nothing. Python's uploader skips by itself (RELEASING.md).
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# A trusted publisher states where it built; npm refuses that of a person's machine.
provenance=${GITHUB_ACTIONS:+--provenance}

upload() {
    echo "upload: $*"
    [ -n "${DRY_RUN:-}" ] || "$@"
}

crates() {
    for crate in wsguard-proto wsguard wsguard-cli; do
        if cargo info --quiet --registry crates-io "$crate@$version" >/dev/null 2>&1; then
            echo "there already: $crate $version"
        else
            upload cargo publish --locked -p "$crate"
        fi
    done
}

npm_packages() {
    for archive in dist/wsguard-linux-*-"$version".tgz "dist/wsguard-$version.tgz" "dist/wsguard-client-$version.tgz"; do
        [ -f "$archive" ] || { echo "upload: there is no $archive" >&2; exit 1; }
        name=$(tar -xOzf "$archive" package/package.json | node -p 'JSON.parse(require("fs").readFileSync(0)).name')
        if [ "$(npm view "$name@$version" version 2>/dev/null)" = "$version" ]; then
            echo "there already: $name $version"
        else
            upload npm publish "./$archive" --access public $provenance
        fi
    done
}

case ${1:-} in
crates) crates ;;
npm) npm_packages ;;
*) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
esac
