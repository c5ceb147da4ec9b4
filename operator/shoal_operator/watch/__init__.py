"""Kubernetes objects -> the rest of the operator: one informer for every kind, and what is read from the objects."""
