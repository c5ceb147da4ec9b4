"""How many pods an InferenceService has, which of them go first, and when a new one counts.

Pure: ``decide``, ``deployments``. Edge: ``PodCounts``, ``DeletionCosts``, ``GateSetter``.
"""
