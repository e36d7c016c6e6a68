#!/bin/sh
# Builds app/static/graphiql from exact package versions; with --check it compares a fresh build's digests instead.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
committed="$root/app/static/graphiql"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Built in a copy: the checkout gains no node_modules, and no path of it can reach the output.
cp -R "$here/package.json" "$here/package-lock.json" "$here/build.mjs" "$here/src" "$work/"
cp -R "$root/examples" "$work/examples"
cd "$work"
# The lock holds versions and digests but no addresses, so any registry will do.
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
node build.mjs examples out

case "${1:-}" in
    "")
        rm -rf "$committed"
        mkdir -p "$committed"
        cp out/* "$committed/"
        echo "Built $committed"
        ;;
    --check)
        # Both ways: the same digests are listed, and the committed files have them.
        diff "$committed/SHA256SUMS" out/SHA256SUMS
        (cd "$committed" && sha256sum --check --quiet --strict SHA256SUMS)
        diff -rq "$committed" out
        echo "app/static/graphiql is what its sources build"
        ;;
    *)
        echo "usage: build.sh [--check]" >&2
        exit 2
        ;;
esac
