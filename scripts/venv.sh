#!/usr/bin/env bash
# Makes .venv: every tool that checks the code, from the hashed lock. Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=locks/dev.txt
stamp=.venv/.lock-sha256
wanted="$(sha256sum "$lock" | cut -d' ' -f1)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/python ]; then
    exit 0
fi

python="$(command -v python3 || true)"
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "fettle: Python 3.11 or newer is needed as python3." >&2
    exit 1
fi
scripts/uv venv --quiet --allow-existing --python "$python" .venv
scripts/uv pip sync --quiet --require-hashes --compile-bytecode --python .venv/bin/python "$lock"
echo "$wanted" > "$stamp"
