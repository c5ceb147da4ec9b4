"""What is shown of which object: a model is in the status of whatever it comes from.

Between the world, which knows models and groups of pods, and the status room, which knows TrainedModels and
InferenceServices.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from .core import Core
from .manifests.reasons import CRASH_LOOP
from .manifests.settings import WorkloadSettings
from .owners import Owners
from .state.owners.project import refused_view
from .state.world.values import ModelKey, ModelSpec, Problem, ServiceKey, ServiceSpec, Source, is_group
from .state.world.views import ModelView, ServiceView
from .status.writer import StatusWriter

PAGE = 200
_NO_PODS = ServiceSpec("", "", "", 0, capacity_bytes=0, formats=frozenset(), server_type="")


class Shown:
    """``gateways``: how many Envoys are connected; ``settings``: where InferenceServices answer."""

    def __init__(self, core: Core, gateways: Callable[[], int], settings: WorkloadSettings) -> None:
        self._troubles: dict[ServiceKey, Problem] = {}
        self._core = core
        self._gateways = gateways
        self._url = settings.service_url
        self._urls = settings.model_urls
        self._status: StatusWriter | None = None
        self._owners: Owners | None = None
        self._startup_said: Callable[[ServiceKey], str] = lambda service: ""
        self._explained: Callable[[ModelView], ModelView] = lambda view: view

    def connect(
        self,
        status: StatusWriter,
        owners: Owners,
        startup_said: Callable[[ServiceKey], str],
        explained: Callable[[ModelView], ModelView],
    ) -> None:
        """What is there only once the operator runs. ``startup_said``: what a probe last said of slow pods.
        ``explained``: a model of which more is known than its agent says."""
        self._status, self._owners, self._startup_said = status, owners, startup_said
        self._explained = explained

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
        if self._status is None or source is Source.PREFIX:
            return
        if source is Source.INFERENCE_SERVICE:
            self._status.service_changed(ServiceKey(*key))
        else:
            self._status.model_changed(key)

    def model(self, key: ModelKey) -> ModelView | None:
        """The model that has the name, whatever it comes from."""
        spec = self.holder(key)
        view = self._core.model(key, self._url(key.namespace, spec.service)) if spec is not None else None
        return self._explained(view) if view is not None else None

    def explain(self, key: ModelKey) -> ModelView | None:
        """The same, with each pod's word about it."""
        spec = self.holder(key)
        view = self._core.explain(key, self._url(key.namespace, spec.service)) if spec is not None else None
        return self._explained(view) if view is not None else None

    def trained_model(self, key: ModelKey) -> ModelView | None:
        """What a TrainedModel's status is made of."""
        return self._of(Source.TRAINED_MODEL, key)

    def inference_service(self, key: ServiceKey) -> ServiceView | None:
        """What an InferenceService's status is made of."""
        if is_group(key.name):
            return None
        if self._owners is not None and (left := self._owners.left_to_kserve(key)) is not None:
            return ServiceView(left, self._url(*key), 1, 0, 0, 0, 0, gateways=self._gateways())
        member = self._owners.claims.own(ModelKey(*key)) if self._owners is not None else None
        if member is not None and member.service != key.name:
            return self._member(key, member)
        view = self._core.service(key, self._url(*key), self._gateways())
        if view is None:
            return None
        waiting = f"{view.pod_waiting} {self._startup_said(key)}".strip()
        own = None if view.spec.multi_model else self._of(Source.INFERENCE_SERVICE, ModelKey(*key))
        return replace(view, pod_waiting=waiting, pod_problem=self._with_probe(view.pod_problem, key), model=own)

    def _with_probe(self, problem: Problem | None, key: ServiceKey) -> Problem | None:
        """A container that is ended for its probe has no more than a number to say of it itself."""
        said = self._startup_said(key)
        if problem is None or problem.reason != CRASH_LOOP or not said:
            return problem
        return replace(problem, message=f"{problem.message} {said}")

    def _member(self, key: ServiceKey, claimed: ModelSpec) -> ServiceView | None:
        """Of an InferenceService whose model is on its runtime's pods. Of these it says whether there are any, and why
        not: not how many, which would be thousands of statuses for each pod that comes or goes."""
        model = self._of(Source.INFERENCE_SERVICE, ModelKey(*key))
        if model is None:
            return None
        group = ServiceKey(key.namespace, model.spec.service)
        pods = self._core.service(group, "", self._gateways())
        rest, grpc = self._urls(*key)
        usable = model.service_ready  # each of its models is told of a change of that, but not of each pod's readiness
        spec = pods.spec if pods is not None else _NO_PODS
        return ServiceView(
            spec=replace(
                spec,
                namespace=key.namespace,
                name=key.name,
                uid=claimed.uid,
                generation=claimed.generation,
                ignored_fields=claimed.ignored_fields,
                problem=spec.problem or model.spec.problem,
                degraded=None,
                not_tuned=(),
                missing_secrets=(),
                autoscaled=False,
                scaled_by="",
            ),
            url=self._url(*key),
            address=rest,
            grpc_url=grpc,
            pods_wanted=1,
            pods_ready=int(usable),
            models_total=1,
            models_ready=int(model.ready),
            models_failed=0,
            pod_problem=None if pods is None or usable else self._with_probe(pods.pod_problem, group),
            pod_waiting="" if pods is None or usable else f"{pods.pod_waiting} {self._startup_said(group)}".strip(),
            gateways=self._gateways(),
            model=model,
        )

    def service_changed(self, key: ServiceKey) -> None:
        """Something about whoever has pods may differ now."""
        if is_group(key.name):
            self._group_changed(key)
        elif self._status is not None:
            self._status.service_changed(key)

    def _group_changed(self, group: ServiceKey) -> None:
        """A group's pods may have come to be in trouble, or out of it: its models' statuses say so."""
        view = self._core.service(group, "", 0)
        trouble = view.pod_problem if view is not None and not view.pods_ready else None
        if self._troubles.get(group) == trouble:
            return
        if trouble is None:
            del self._troubles[group]
        else:
            self._troubles[group] = trouble
        if view is not None:
            self._look_at(group, "")

    def _look_at(self, group: ServiceKey, after: str) -> None:
        """A page of the group's models, and the rest once others had their turn."""
        keys = self._core.world.models.of(group).page(after, PAGE)
        for key in keys:
            self.model_changed(key)
        if len(keys) == PAGE:
            asyncio.get_running_loop().call_soon(self._look_at, group, keys[-1].name)

    def _of(self, source: Source, key: ModelKey) -> ModelView | None:
        """The model that such an object wants; it need not have its name."""
        refused = self._owners.claims.refused(source, key) if self._owners is not None else None
        if refused is not None:
            return refused_view(self._core.world, refused, url=self._url(key.namespace, refused.service))
        view = self.model(key)
        return view if view is not None and view.spec.source is source else None
