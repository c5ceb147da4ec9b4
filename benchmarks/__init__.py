"""Measurements that say what they ran on: ``python -m benchmarks.<name>`` writes results/<name>-<date>.{json,md}."""
