"""What to do about a model that no pod answers for: one text, said by its condition, by explain, and by the gateway."""

from collections.abc import Mapping
from typing import Final

from shoal_operator.state.world.effects import Unavailable

ADVICE: Final[Mapping[Unavailable, str]] = {
    Unavailable.MODEL_TOO_LARGE: "Raise the predictor's resources.limits.memory, or declare spec.model.memory as "
    "less if the model takes less.",
    Unavailable.NO_MEMORY: "Raise the predictor's resources.limits.memory or minReplicas, lower "
    "spec.serving.minCopies of models that are kept in memory (kubectl get trainedmodels shows them as Kept), or "
    "delete models.",
    Unavailable.NO_RUNTIME: "Correct spec.model.framework, or name an InferenceService with another runtime.",
}
