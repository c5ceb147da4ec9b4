#!/usr/bin/env bash
# Prints the folder that the DJL Serving image is built in: serving/ (the parts that no registry has, from
# SHOAL_DJL_SERVING or from the folder beside this checkout), jars/ (what Maven has of it, compared with its list of
# checksums; once per machine) and the entry point.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
parts=${SHOAL_DJL_SERVING:-$here/../../../shared/servers/djl-serving-0.36.0}
if [[ ! -d $parts/lib ]]; then
  echo "DJL Serving has no package in the registries: build it from its source (github.com/deepjavalibrary/djl-serving," \
    "tag v0.36.0), and name the folder with its lib/, conf/ and fetch-dependencies.sh in SHOAL_DJL_SERVING;" \
    "$parts has none" >&2
  exit 1
fi
mark=$(cat "$parts/SHA256SUMS" "$parts/maven-dependencies.txt" "$here/entry-point.sh" | sha256sum | cut -c1-12)
home=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/servers/djl-image-$mark
if [[ ! -d $home ]]; then
  making=$home.$$
  mkdir -p "$making/serving"
  command -v mvn >/dev/null || { echo "Maven (mvn) is needed to fetch DJL Serving's jars" >&2; exit 1; }
  bash "$parts/fetch-dependencies.sh" "$making/jars" onnxruntime >&2
  cp -r --no-preserve=mode "$parts/lib" "$parts/conf" "$parts/LICENSE" "$parts/NOTICE" "$making/serving/"
  cp "$here/entry-point.sh" "$making/"
  mv -T "$making" "$home" 2>/dev/null || rm -rf "$making"
fi
echo "$home"
