"""`make demo`: from a fresh machine to sixty models that answer through the gateway."""
