#!/usr/bin/env bash
# Pins and hashes everything that is installed from PyPI: the project's extras and what builds the project
# into constraints.txt, the images of runtimes/ into their requirements.txt. Pins that still satisfy what is
# asked for stay as they are; with --upgrade each moves to the newest version.
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
# On top of these: numpy is there.
compile requirements-openvino.txt "What image mlserver-openvino has on top of the MLServer image, pinned and hashed." \
  --python-platform x86_64-manylinux_2_28 --constraint requirements.txt --no-emit-package numpy \
  requirements-openvino.in "$@"
cd ../triton
# Without what these ask for: the server itself needs none of it.
compile requirements.txt "What the Triton image holds, pinned and hashed." \
  --no-deps --python-platform x86_64-manylinux_2_35 requirements.in "$@"
cd ../kserve
compile requirements.txt "What the KServe image and the tests' KServe server hold, pinned and hashed." \
  --python-platform x86_64-manylinux_2_28 requirements.in "$@"
cd ../mms
# Without what the server asks for: archivers and picture libraries that it does not need to serve.
compile requirements.txt "What the multi-model-server image holds, pinned and hashed." \
  --no-deps --python-platform x86_64-manylinux_2_28 requirements.in "$@"
cd ../torchserve
# PyTorch is Debian's.
compile requirements.txt "What the TorchServe image has from PyPI, pinned and hashed." \
  --no-deps --python-platform x86_64-manylinux_2_28 requirements.in "$@"
