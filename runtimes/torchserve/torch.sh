#!/bin/sh
# sh torch.sh FOLDER: PyTorch for processors alone, and for Python 3.11, from Debian 12's packages, into FOLDER: modules in
# usr/lib/python3/dist-packages, libraries in the folders that FOLDER/libraries lists. Nothing is installed. PyPI's own
# package for x86-64 needs 4 GB of CUDA libraries to be imported at all.
# What this machine has already is not among it: run it where it is to be used.
set -eu
mkdir -p "$1/debs/partial"
folder=$(cd "$1" && pwd)
apt-get install -y -qq --no-install-recommends --download-only -o DPkg::Lock::Timeout=120 \
  -o Dir::Cache::archives="$folder/debs" python3-torch=1.13.1+dfsg-4 python3-numpy python3-typing-extensions
for package in "$folder"/debs/*.deb; do
  case $package in
    */libtorch-test_*|*/proj-data_*|*/python3-sympy_*|*/python3-mpmath_*|*/python3-hypothesis_*) continue ;;
  esac
  dpkg -x "$package" "$folder"
done
(cd "$folder" && rm -rf debs usr/share usr/include usr/bin etc var)
triplet=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
libraries=$folder/usr/lib/$triplet
# libgloo is in usr/lib itself; blas and lapack in folders that only an installation would link to.
printf '%s\n' "$libraries" "$folder/usr/lib" "$folder/lib/$triplet" "$libraries/blas" "$libraries/lapack" \
  > "$folder/libraries"
