"""Pods: their health, their agents' reports, what is adopted from them, and what recovery waits for."""
