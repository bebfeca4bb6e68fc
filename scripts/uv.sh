#!/usr/bin/env bash
# Prints the path of uv, installing the pinned version into the cache first when it is missing.
set -euo pipefail

version=0.13.9
cache="${FETTLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fettle}"
home="$cache/tools/uv-$version"

if [ ! -x "$home/bin/uv" ]; then
    # Debian ships python3 without ensurepip; everywhere else the module is part of Python.
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "fettle: Python's venv module is missing; install it (Debian: apt-get install python3-venv)." >&2
            exit 1
        fi
        apt-get update -qq >&2
        apt-get install -y -qq --no-install-recommends python3-venv >&2
    fi
    mkdir -p "$cache/tools"
    fresh="$home.$$"
    python3 -m venv "$fresh"
    "$fresh/bin/pip" install --quiet --disable-pip-version-check "uv==$version" >&2
    # Another process may have been faster; its copy is as good as ours.
    mv -T "$fresh" "$home" 2>/dev/null || rm -rf "$fresh"
fi
echo "$home/bin/uv"
