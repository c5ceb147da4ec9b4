"""What the state knows of a model or an InferenceService → its status conditions, its events and `explain`.

Pure: ``model_status``, ``service_status``, ``explain``. Edge: ``StatusWriter``, ``FailureEvents``.
"""
