"""Shoal's plug-in for MLServer: the agent puts this folder on the server's PYTHONPATH; the image stays upstream's.

It uses nothing that the upstream image lacks (MLServer, numpy, pandas, orjson, fastapi), and works on MLServer 1.7:

- ``repository.SlotRepository``: MLServer's model repository, going straight to the one folder that the agent staged.
- ``isolation``: each model runs its own code, whatever its modules are called.
- ``offload``, ``health``: a model that computes for long stops no other, and no health check.
- ``routes``: KServe's v1 protocol, and the agent's view of what is loaded, as routes of MLServer's own application.
- ``counters``: requests per model in a file that is mapped into memory, so that reading them costs the server nothing.
- ``errors``: whatever goes wrong is an error object with the status that fits, and the connection lives.
- ``tensors``, with ``binary`` and ``columns``: binary tensors, text, and named columns, as each client sends them.
- ``versions``, ``probabilities``: a declared version, and KServe's PREDICT_PROBA.
- ``bodies``: JSON that does not say so, and gzip within bounds.
- ``said_headers``: no header of an answer, such as the request's id, ends the connection.
- ``batching``: in a batch only the wrong request fails.
- ``named``: a gRPC call's model is the one that its metadata names, where the message leaves it out.
- ``keep_alive``: the server never closes an idle connection first.
- ``not_loaded``: marks answers for models that the server does not have, so that the gateway asks elsewhere.
- ``openvino_model``: OpenVINO's models, where the image has that package.
"""
