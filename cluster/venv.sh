#!/usr/bin/env bash
# Makes .venv with every extra of the project, exactly as constraints.txt pins and hashes them.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
uv=$(bash cluster/uv.sh)
index=$("$python" -m pip config get "global.index-url" 2>/dev/null || true)
[[ -z ${PIP_INDEX_URL:-$index} ]] || export UV_DEFAULT_INDEX=${PIP_INDEX_URL:-$index}
[[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}

[[ -x .venv/bin/python ]] || "$python" -m venv .venv
"$uv" pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r constraints.txt
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
