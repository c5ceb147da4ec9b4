"""A real one-node Kubernetes on this machine, without Docker or a container registry.

Standard library only: it runs before any virtual environment exists. See README.md beside this file.
"""
