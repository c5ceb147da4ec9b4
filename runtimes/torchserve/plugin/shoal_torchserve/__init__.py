"""Runs inside TorchServe: every worker's handler is ``handler.Handler``, which calls the model's own.

TorchServe's images have Python 3.9 and newer, so nothing here is newer than that.
"""
