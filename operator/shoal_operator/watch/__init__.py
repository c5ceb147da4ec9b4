"""Kubernetes objects -> the rest of the operator: kopf's event handlers, and a sweep for what they miss."""
