"""Kubernetes objects -> the rest of the operator: kopf's event handlers of a few lines, and a sweep for what they miss."""
