"""The Shoal operator: watch -> state -> placement -> agents, gateway, status. See docs/architecture.md."""
