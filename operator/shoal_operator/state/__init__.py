"""The model of the world: ``step(state, event) -> effects``, without I/O, clocks or logs."""
