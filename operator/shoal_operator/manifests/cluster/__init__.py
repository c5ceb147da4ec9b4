"""Objects in the cluster kept as rendered: applied server-side, and only where something differs."""
