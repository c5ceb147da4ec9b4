"""What users do to a simulated cluster: TrainedModels and InferenceServices made, changed, broken, mended, deleted."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from shoal_api.messages import content_digest, copy_id
from shoal_operator.state.world.values import ModelSpec, Problem, ServiceSpec

from .parts import BROKEN
from .unregistered import names, place

if TYPE_CHECKING:
    from .simulation import Simulation

INVALID = Problem("InvalidSpec", "spec.model.storageUri: no such scheme. Correct the TrainedModel and apply it again.")
NO_RUNTIME = Problem("NoSupportingRuntime", "No runtime of the cluster loads what the predictor names.")


class Edits:
    """``actions``: each is one random edit."""

    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.cluster = simulation.cluster
        self.loop = simulation.loop
        self.rng = rng
        self.actions: tuple[Callable[[], None], ...] = (
            self.update_model,
            self.update_model,
            self.resize_model,
            self.change_copies,
            self.delete_model,
            self.delete_and_create,
            self.move_model,
            self.move_there_and_back,
            self.create_model,
            self.spoil_model,
            self.spoil_model,
            self.create_spoilt,
            self.scale,
            self.delete_service,
            self.switch_runtime,
            self.spoil_service,
        )
        if simulation.options.varied:
            self.actions += (self.change_bounds, self.change_bounds, self.change_bounds)
            # Where there may be no pod nothing is strict: manifests/resolve.py
            self.actions += (self.change_bounds if simulation.options.idle else self.switch_strict,)
        if simulation.options.idle:
            self.actions += (self.switch_idle, self.create_model, self.update_model)
        if simulation.options.unregistered:
            self.actions += (self.change_place, self.change_place, self.register)
        if simulation.options.overwritten:
            self.actions += (self.overwrite,) * 12

    # TrainedModels.

    def _model(self) -> ModelSpec | None:
        """One whose object can be used."""
        models = [model for model in self.cluster.models.values() if model.problem is None]
        return self.rng.choice(models) if models else None

    def _change(self, model: ModelSpec, **changes: object) -> None:
        given = {"generation": model.generation + 1, **changes}
        self.cluster.show_model(replace(model, **given))  # type: ignore[arg-type]  # any field

    def _real(self, model: ModelSpec) -> int:
        """Bytes that the model really takes. Users may declare more, never less."""
        return self.cluster.real[copy_id(model.uid, model.content)]

    def update_model(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, **self._content(model))

    def _content(self, model: ModelSpec) -> dict[str, str]:
        last = "broken" if self.rng.random() < 0.3 else self.cluster.uid("v")
        uri = f"s3://models/{model.name}-{last}"
        content = content_digest(uri, "sklearn")
        real = self._real(model) if model.memory_bytes is None else model.memory_bytes
        self.cluster.real.setdefault(copy_id(model.uid, content), self.rng.choice((real, real, real // 2)))
        return {"storage_uri": uri, "content": content}

    def spoil_model(self) -> None:
        """An edit that cannot be used: nothing of it is readable, or only a part is wrong. Mended after a while, as it
        was before or with another content."""
        model = self._model()
        if model is None:
            return
        nothing = {"storage_uri": "", "framework": "", "content": content_digest("", ""), "memory_bytes": None}
        self._change(model, problem=INVALID, **self.rng.choice((nothing, {"min_copies": None, "max_copies": 1})))
        content = self._content(model) if self.rng.random() < 0.3 else {}
        mended = replace(model, **content)  # type: ignore[arg-type]  # two of its fields
        self.loop.at(self.rng.uniform(0.2, 8), partial(self._mend, mended))

    def create_spoilt(self) -> None:
        """A new model that cannot be used before it is mended."""
        model = self.cluster.new_model(self.cluster.uid("n"), self.rng.choice(self.cluster.names))
        self.cluster.show_model(replace(model, problem=INVALID))
        self.loop.at(self.rng.uniform(0.2, 8), partial(self._mend, model))

    def _mend(self, model: ModelSpec) -> None:
        now = self.cluster.models.get(model.key)
        if now is not None and now.uid == model.uid:
            self.cluster.show_model(replace(model, generation=now.generation + 1))

    def resize_model(self) -> None:
        model = self._model()
        if model is not None:
            unit, real = self.simulation.options.unit, self._real(model)
            sizes: list[int | None] = [size * unit for size in (5, 10, 20, 40) if size * unit >= real]
            if self.simulation.options.undeclared:
                sizes.append(None)  # no longer declared
            self._change(model, memory_bytes=self.rng.choice(sizes))

    def overwrite(self) -> None:
        """Another artifact under the same URI: sometimes as it was before, sometimes one that no server loads, which is
        mended after a while, or never."""
        model = self._model()
        if model is None:
            return
        uri, cluster = model.storage_uri, self.cluster
        former = [revision for revision in cluster.revisions.get(uri, ()) if not revision.endswith(BROKEN)]
        cluster.storage(uri)
        how = self.rng.random()
        if how < 0.3:
            cluster.revisions[uri].append(cluster.new_revision(uri, BROKEN))
            if self.rng.random() < 0.7:
                self.loop.at(self.rng.uniform(1, 10), partial(self._overwrite_again, uri))
        elif how < 0.5 and former:
            cluster.revisions[uri].append(self.rng.choice(former))
        else:
            self._overwrite_again(uri)

    def _overwrite_again(self, uri: str) -> None:
        self.cluster.revisions[uri].append(self.cluster.new_revision(uri))

    def change_copies(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, min_copies=self.rng.choice((1, 1, 2)))

    def change_bounds(self) -> None:
        model = self._model()
        if model is not None:
            idle, most = self.rng.choice((None, 3.0)), self.rng.choice((None, 1, 2))
            self._change(model, idle_unload=idle, max_copies=most, min_copies=self.rng.choice((None, 0, 1)))

    def delete_model(self) -> None:
        model = self._model()
        if model is not None:
            self.cluster.remove_model(model)

    def delete_and_create(self) -> None:
        model = self._model()
        if model is not None:
            self.cluster.remove_model(model)
            self.loop.at(self.rng.uniform(0, 1), partial(self.cluster.add_model, model.name, model.service))

    def create_model(self) -> None:
        self.cluster.add_model(self.cluster.uid("n"), self.rng.choice(self.cluster.names))

    def move_model(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, service=self.rng.choice(self.cluster.names))

    def move_there_and_back(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, service=self.rng.choice(self.cluster.names))
            self.loop.at(self.rng.uniform(0, 3), partial(self._move_back, model))

    def _move_back(self, model: ModelSpec) -> None:
        now = self.cluster.models.get(model.key)
        if now is not None and now.problem is None:
            self._change(now, service=model.service)

    # InferenceServices.

    def _service(self) -> ServiceSpec | None:
        services = self.cluster.services
        return self.rng.choice(list(services.values())) if services else None

    def _change_service(self, service: ServiceSpec, **changes: object) -> None:
        given = {"generation": service.generation + 1, **changes}
        self.cluster.show_service(replace(service, **given))  # type: ignore[arg-type]  # any field

    def _change_back(self, service: ServiceSpec, field: str) -> None:
        now = self.cluster.services.get(service.key)
        if now is not None and now.uid == service.uid:
            self._change_service(now, **{field: getattr(service, field)})

    def scale(self) -> None:
        service = self._service()
        if service is not None:
            count = self.rng.randint(1, 4)
            most = max(count, self.simulation.options.most_pods)
            self._change_service(service, min_replicas=count, max_replicas=most)
            self.loop.at(self.rng.uniform(0, 1), partial(self.cluster.reconcile, service.name))

    def delete_service(self) -> None:
        """Deleted, and made again under its name while the old pods end."""
        service = self._service()
        if service is None:
            return
        self.cluster.remove_service(service)
        self.loop.at(self.rng.uniform(0, 4), partial(self.cluster.reconcile, service.name))
        self.loop.at(self.rng.uniform(0.1, 6), partial(self.cluster.add_service, service.name))

    def switch_strict(self) -> None:
        service = self._service()
        if service is not None:
            self._change_service(service, strict=not service.strict)

    def switch_idle(self) -> None:
        """There are to be pods at any time, until someone thinks otherwise."""
        service = self._service()
        if service is not None and service.idle is not None:
            self._change_service(service, idle=None)
            self.loop.at(self.rng.uniform(0, 1), partial(self.cluster.reconcile, service.name))
            self.loop.at(self.rng.uniform(0.5, 8), partial(self._change_back, service, "idle"))

    def change_place(self) -> None:
        """Unregistered models are elsewhere, or nowhere, or nobody can read where, until someone thinks otherwise."""
        service = self._service()
        if service is None or service.models_from is None or service.place_unusable:
            return
        unusable = self.rng.random() < 0.3
        other = None if unusable or self.rng.random() < 0.5 else place(self.simulation, "s3://others/")
        self._change_service(service, models_from=other, place_unusable=unusable)
        self.loop.at(self.rng.uniform(0.5, 8), partial(self._place_back, service))

    def _place_back(self, service: ServiceSpec) -> None:
        now = self.cluster.services.get(service.key)
        if now is not None and now.uid == service.uid:
            self._change_service(now, models_from=service.models_from, place_unusable=False)

    def register(self) -> None:
        """A model that nobody had registered gets an object, by the name that it has."""
        service = self.rng.choice(self.cluster.names)
        self.cluster.add_model(self.rng.choice(names(service)), service)

    def switch_runtime(self) -> None:
        """The runtime that is chosen now loads something else, until someone corrects it."""
        service = self._service()
        if service is not None and "onnx" not in service.formats:
            self._change_service(service, formats=frozenset({"onnx"}))
            self.loop.at(self.rng.uniform(0.5, 5), partial(self._change_back, service, "formats"))

    def spoil_service(self) -> None:
        """It cannot hold models any more, or says that something of it is not in force, until someone corrects it."""
        service = self._service()
        if service is not None and service.problem is None and service.degraded is None:
            field = self.rng.choice(("problem", "degraded"))
            self._change_service(service, **{field: NO_RUNTIME})
            self.loop.at(self.rng.uniform(0.5, 5), partial(self._change_back, service, field))
