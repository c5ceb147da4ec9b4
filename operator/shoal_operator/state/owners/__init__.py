"""Owners: InferenceServices and TrainedModels coming, changing and going; plans carried out; views built."""
