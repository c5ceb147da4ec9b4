"""A change of tuning is another content: what answers goes on answering until the new one is there."""

from dataclasses import replace

from shoal_api.messages import content_digest, copy_id
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.state.world import events

from .test_last_good import SERVICE, Cluster
from .world_in_hand import KEY, MI, model_spec

URI = "s3://models/m"
MORE = Tuning(workers_max=2)


def test_a_change_of_tuning_loads_beside_what_answers_and_counts_every_worker() -> None:
    cluster = Cluster()
    spec = replace(model_spec("m", memory_bytes=4 * MI, min_copies=1), storage_uri=URI, framework="sklearn")
    spec = replace(spec, content=content_digest(URI, "sklearn"))
    cluster.do(events.ModelSeen(spec))
    cluster.agent()
    pod = cluster.world.pods["pod-1"]
    before = pod.copies["m"].aim_id
    assert (pod.copies["m"].serving, pod.copies["m"].intent().tuning) == (before, UNTUNED)
    tuned = replace(spec, tuning=MORE, content=content_digest(URI, "sklearn", MORE), memory_bytes=8 * MI)
    cluster.do(events.ModelSeen(tuned))
    copy = pod.copies["m"]
    assert copy.aim_id == copy_id(spec.uid, tuned.content) != before
    assert (copy.intent().tuning, copy.intent().memory_bytes) == (MORE, 8 * MI)
    assert copy.serving == before, "it answers on"
    assert cluster.world.models[KEY].routes[SERVICE].pods == {"pod-1"}
    assert pod.committed == 12 * MI, "both are in memory until the old one has gone"
    cluster.agent()
    assert (copy.serving, pod.committed) == (copy.aim_id, 8 * MI)
    good = cluster.world.models[KEY].last_good
    assert good is not None
    assert good.tuning == MORE
