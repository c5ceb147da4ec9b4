"""Why a model is on no pod, pod by pod."""

from shoal_operator.placement.verdicts import verdicts
from shoal_operator.state.world.values import Verdict

from .test_planner import need, pod


def test_each_pod_has_its_words_and_one_that_takes_it_has_none() -> None:
    pods = (pod("full", committed=95), pod("fits"), pod("going", leaving=True, committed=95))
    assert verdicts(need("m"), pods) == (
        Verdict("full", "FitsMemory", "needs 10Mi, 5Mi of 100Mi are free"),
        Verdict("going", "NotLeaving", "the pod is leaving"),
        Verdict("going", "FitsMemory", "needs 10Mi, 5Mi of 100Mi are free"),
    )
