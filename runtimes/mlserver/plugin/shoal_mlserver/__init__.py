"""Shoal's plug-in for MLServer: the agent puts this folder on the server's PYTHONPATH; the image stays upstream's.

It uses nothing that the upstream image lacks (MLServer, numpy, orjson, starlette), and works on MLServer 1.7:

- ``repository.SlotRepository``: MLServer's model repository, going straight to the one folder that the agent staged.
- ``routes``: KServe's v1 protocol, and the agent's view of what is loaded, as routes of MLServer's own application.
- ``counters``: requests per model in a file that is mapped into memory, so that reading them costs the server nothing.
- ``not_loaded``: marks answers for models that the server does not have, so that the gateway asks elsewhere.
"""
