#!/usr/bin/env bash
# Makes the environment that the tests and benchmarks of trainer and model server run in and prints its Python's path. It holds the
# model stack, gigabytes, so all checkouts share one in the cache, named by the lock it was made from.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=locks/model-dev.txt
cache="${FETTLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fettle}"
home="$cache/venvs/model-$(sha256sum "$lock" | cut -c1-12)"

if [ ! -x "$home/bin/python" ]; then
    mkdir -p "$cache/venvs"
    exec 9> "$cache/venvs/.lock"
    flock 9
fi
if [ ! -x "$home/bin/python" ]; then
    # A half-made environment must never look finished; one that nobody has used for days belongs to an older lock.
    rm -rf "$home.new"
    find "$cache/venvs" -mindepth 1 -maxdepth 1 \( -name 'model-*' -o -name 'trainer-*' \) -mtime +2 -exec rm -rf {} +
    scripts/uv venv --quiet --relocatable --python "$(command -v python3)" "$home.new" >&2
    # Compiled once, here: where Python is told to write no bytecode, every process would compile the model stack anew.
    scripts/uv pip sync --quiet --require-hashes --compile-bytecode --python "$home.new/bin/python" "$lock" >&2
    mv -T "$home.new" "$home"
fi
touch "$home"
echo "$home/bin/python"
