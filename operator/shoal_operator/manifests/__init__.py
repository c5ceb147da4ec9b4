"""InferenceService and runtime → Deployment, Services and what belongs to them. Pure, but for ``cluster/``.

``resolve``: what the pods hold and run, or why they can hold nothing. ``render``: the objects.
"""
