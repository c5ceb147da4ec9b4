"""InferenceService and runtime → Deployment, Services and what belongs to them, kept as rendered.

Pure: ``resolve``, ``render``, ``pod_spec``. Edge: ``WorkloadController``.
"""
