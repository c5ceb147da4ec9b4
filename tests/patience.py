"""How long a test waits for what should come at once, on a machine that others keep busy."""

BUSY = 5.0
"""Seconds that an answer which waits for nothing may take. What a request can wait for in such a test (a deadline, a
held load) ends well after it. How fast something is, `benchmarks/` shows."""
