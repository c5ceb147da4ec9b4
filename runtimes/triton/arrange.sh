#!/bin/sh
# Makes of what pip or uv installed with --target FOLDER a Triton with its Python backend: bin/tritonserver and
# backends/ in FOLDER/pytriton/tritonserver, which find their libraries beside them. Python models import from the
# backend's own folder, whatever PYTHONPATH says.
set -eu
cd "$1"
server=pytriton/tritonserver
backend=$server/backends/python
cp "$server/python_backend_stubs/3.11/triton_python_backend_stub" "$backend/"
mv numpy numpy.libs onnxruntime "$backend/"
chmod 0755 "$server/bin/tritonserver" "$backend/triton_python_backend_stub"
rm -rf "$server/python_backend_stubs" nvidia_pytriton.libs/libpython3* bin ./*.dist-info
find . -type d -name tests -prune -exec rm -rf {} +
find pytriton -mindepth 1 -maxdepth 1 ! -name tritonserver -exec rm -rf {} +
