#!/usr/bin/env bash
# Pins and hashes everything that is installed from PyPI: the project's extras and what builds the project
# into constraints.txt, MLServer's image into runtimes/mlserver/requirements.txt. Pins that still satisfy
# what is asked for stay as they are; with --upgrade each moves to the newest version.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

uv=$(bash cluster/uv.sh)
mkdir -p .local

compile() { # TARGET HEADER ARGUMENTS…
  local target=$1 header=$2 pins=$root/.local/pins.txt
  shift 2
  cp "$target" "$pins" 2>/dev/null || : > "$pins"
  "$uv" pip compile --quiet --no-annotate --no-header --generate-hashes --python-version 3.11 \
    --output-file "$pins" "$@"
  { printf '# %s Made by: make constraints\n' "$header"; grep -v '^#' "$pins"; } > "$target"
  rm "$pins"
}

"${PYTHON:-python3}" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
  > .local/build-requirements.in
compile constraints.txt "Every package that Shoal's extras need, pinned and hashed, for any platform." \
  --universal --all-extras pyproject.toml .local/build-requirements.in "$@"
cd runtimes/mlserver
compile requirements.txt "What the MLServer image holds, pinned and hashed." \
  --python-platform x86_64-manylinux_2_28 --override overrides.txt requirements.in "$@"
