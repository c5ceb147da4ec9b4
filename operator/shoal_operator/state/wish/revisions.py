"""Which revision of its artifact a model's content stands for. Pure but for the model's own fields.

What a storage URI names may be overwritten in place; agents tell which revision they have. The first that is heard of
is what ``spec.content`` stands for. Another one that an agent finds in the storage later is another content, as an edit
of the storage URI would be: with a digest of its own, so that all that holds of updates holds of it.

Agents know contents by the copy id that they were given, and find whatever the storage holds by then. ``known_as``
makes one name of both.
"""

from dataclasses import replace

from shoal_api.messages import content_digest, copy_id

from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.values import Content, ModelSpec


def name_of(model: Model, revision: str) -> str:
    """Copy id of what the spec names, in that revision."""
    return copy_id(model.spec.uid, revised(model.spec, revision).content)


def known_as(model: Model, said: str | None, revision: str | None, *, told: bool = False) -> str | None:
    """Copy id of what an agent calls ``said``, and has in that revision; ``said`` where that is all that is known.
    ``told``: ``said`` is what it was told to load as a revision of what the spec names."""
    if said is None or not revision or not model.revision:
        return said
    wanted = model.wanted_id
    if said == wanted and revision == model.revision:
        return said
    names = {wanted, name_of(model, ""), name_of(model, revision), former_id(model)}
    if not told and said not in names:
        return said  # another storage URI or tuning
    return wanted if revision == model.revision else name_of(model, revision)


def former_id(model: Model) -> str:
    """Copy id of what was last good, if that is of what the spec names; else empty."""
    good = model.last_good
    return copy_id(model.spec.uid, good.digest) if good is not None and _same(good, model.spec) else ""


def labelled(content: Content) -> bool:
    """Its digest is of a certain revision."""
    return content.digest != content_digest(content.storage_uri, content.framework, content.tuning)


def learn(model: Model, revision: str) -> None:
    """The first that is heard of what the spec names."""
    model.revision = revision


def carry(model: Model, spec: ModelSpec) -> ModelSpec:
    """The spec as users wrote it now, with what is known of its artifact's revision."""
    if spec.problem is not None:
        return spec
    if not _same(model.spec, spec):
        model.revision = ""
        return spec
    return revised(spec, model.spec.revision) if model.spec.revision else spec


def revised(spec: ModelSpec, revision: str) -> ModelSpec:
    """The same of a certain revision."""
    content = content_digest(spec.storage_uri, spec.framework, spec.tuning, revision)
    return replace(spec, content=content, revision=revision)


def _same(one: ModelSpec | Content, other: ModelSpec) -> bool:
    """They name the same, of whatever revision."""
    return (one.storage_uri, one.framework, one.tuning) == (other.storage_uri, other.framework, other.tuning)
