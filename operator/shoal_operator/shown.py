"""What is shown of which object: a model is in the status of whatever it comes from.

Between the world, which knows models and groups of pods, and the status room, which knows TrainedModels and
InferenceServices.
"""

from collections.abc import Callable
from dataclasses import replace

from .core import Core
from .state.owners.project import refused_view
from .state.world.values import ModelKey, ModelSpec, ServiceKey, Source
from .state.world.views import ModelView, ServiceView
from .status.writer import StatusWriter
from .watch.claims import Claims


class Shown:
    """``gateways``: how many Envoys are connected; ``url(namespace, service)``: where an InferenceService answers."""

    def __init__(self, core: Core, gateways: Callable[[], int], url: Callable[[str, str], str]) -> None:
        self._core = core
        self._gateways = gateways
        self._url = url
        self._status: StatusWriter | None = None
        self._claims: Claims | None = None
        self._startup_said: Callable[[ServiceKey], str] = lambda service: ""

    def connect(self, status: StatusWriter, claims: Claims, startup_said: Callable[[ServiceKey], str]) -> None:
        """What is there only once the operator runs. ``startup_said``: what a probe last said of slow pods."""
        self._status, self._claims, self._startup_said = status, claims, startup_said

    def holder(self, key: ModelKey) -> ModelSpec | None:
        """The model that has the name."""
        model = self._core.world.models.get(key)
        return model.spec if model is not None else None

    def model_changed(self, key: ModelKey) -> None:
        """Something about the model that has the name may differ now."""
        spec = self.holder(key)
        if spec is not None:
            self.changed(spec.source, key)

    def changed(self, source: Source, key: ModelKey) -> None:
        """The status of the object that wants a model by that name may differ now."""
        if self._status is None:
            return
        if source is Source.INFERENCE_SERVICE:
            self._status.service_changed(ServiceKey(*key))
        else:
            self._status.model_changed(key)

    def model(self, key: ModelKey) -> ModelView | None:
        """The model that has the name, whatever it comes from."""
        spec = self.holder(key)
        return self._core.model(key, self._url(key.namespace, spec.service)) if spec is not None else None

    def trained_model(self, key: ModelKey) -> ModelView | None:
        """What a TrainedModel's status is made of."""
        return self._of(Source.TRAINED_MODEL, key)

    def inference_service(self, key: ServiceKey) -> ServiceView | None:
        """What an InferenceService's status is made of."""
        view = self._core.service(key, self._url(*key), self._gateways())
        if view is None:
            return None
        waiting = f"{view.pod_waiting} {self._startup_said(key)}".strip()
        own = None if view.spec.multi_model else self._of(Source.INFERENCE_SERVICE, ModelKey(*key))
        return replace(view, pod_waiting=waiting, model=own)

    def _of(self, source: Source, key: ModelKey) -> ModelView | None:
        """The model that such an object wants; it need not have its name."""
        refused = self._claims.refused(source, key) if self._claims is not None else None
        if refused is not None:
            return refused_view(self._core.world, refused, url=self._url(key.namespace, refused.service))
        view = self.model(key)
        return view if view is not None and view.spec.source is source else None
