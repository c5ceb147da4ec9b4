#!/usr/bin/env bash
# Prints where uv is, after installing it (once per machine). It resolves and installs what pip would, in
# seconds, and shares downloads between clones; it asks the package index that pip is set to.
set -euo pipefail

version=0.13.8
home=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/uv-$version
if [[ ! -x $home/bin/uv ]]; then
  part=$home.$$
  "${PYTHON:-python3}" -m venv "$part"
  "$part/bin/pip" install --quiet "uv==$version" >&2
  mv -T "$part" "$home" 2>/dev/null || rm -rf "$part"
fi
echo "$home/bin/uv"
