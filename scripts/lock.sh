#!/bin/sh
# Renew locks/*.txt from pyproject.toml: exact versions with hashes, and no addresses, so that
# every machine installs the same files from whatever package index it is set up to use.
# Versions already locked are kept unless they no longer fit; `scripts/lock.sh --upgrade` moves them.
set -eu
cd "$(dirname "$0")/.."

compile() { # NAME INPUT [OPTION…]: locks/NAME.txt from INPUT
    name=$1 input=$2
    shift 2
    scripts/uv pip compile "$input" --output-file "locks/$name.txt" "$@" $upgrade \
        --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet
    echo "locks/$name.txt: $(grep -c '==' "locks/$name.txt") packages"
}

upgrade=""
case "${1:-}" in
    "") ;;
    --upgrade) upgrade="--upgrade" ;;
    *) echo "usage: scripts/lock.sh [--upgrade]" >&2; exit 64 ;;
esac

compile build locks/build.in
# dev holds what the tests need without the model stack. The parts that share it follow its
# versions, so that an image runs what was tested.
compile dev pyproject.toml --extra dev --extra operator --extra router --extra cli
for part in operator router cli; do
    compile "$part" pyproject.toml --extra "$part" --constraint locks/dev.txt
done
# The trainer image is made on top of the server's model stack: what both need has one version.
compile server pyproject.toml --extra server --constraint locks/dev.txt
compile trainer pyproject.toml --extra trainer --constraint locks/server.txt --constraint locks/dev.txt
compile model-dev pyproject.toml --extra trainer --extra server --extra model-dev --constraint locks/trainer.txt --constraint locks/server.txt --constraint locks/dev.txt
