"""An agent is told of every change of what its pod is to hold: whoever makes one and says nothing has some test fail.

Looked at after every event of every test of state. An agent whose pod goes, or that hung up, hears of it with the rest.
"""

from collections.abc import Iterable

from shoal_api.messages import CopyIntent
from shoal_operator.state.world.effects import DesiredChanged, Effect
from shoal_operator.state.world.entities import Pod, World

from .whole import is_large

Lists = dict[str, dict[str, CopyIntent]]


def lists(world: World) -> Lists:
    """What the pods are to hold, by slot; of none where they are many."""
    if is_large(world) or world.recovering:
        return {}
    return {uid: {intent.name: intent for intent in pod.desired} for uid, pod in world.pods.items()}


def check(world: World, before: Lists, found: Iterable[Effect]) -> None:
    """``before``: the lists ahead of the event of which these effects came."""
    said = {effect.pod_uid for effect in found if isinstance(effect, DesiredChanged)}
    for uid, known in before.items():
        pod = world.pods.get(uid)
        if pod is not None and uid not in said and pod.connected and not pod.leaving:
            assert _news(known, pod) == [], f"the agent of {uid} is not told what it is to hold now"


def _news(before: dict[str, CopyIntent], pod: Pod) -> list[str]:
    """What it has to hear of at once. That nobody waits any more, or that it has looked, it is told with the rest."""
    gone = [name for name in before if name not in pod.desired]
    return gone + [intent.name for intent in pod.desired if _is_news(before.get(intent.name), intent)]


def _is_news(before: CopyIntent | None, after: CopyIntent) -> bool:
    if before is None or (after.urgent and not before.urgent) or after.check not in (0, before.check):
        return True
    return before.model_copy(update={"urgent": after.urgent, "check": after.check}) != after
