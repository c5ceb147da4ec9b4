"""Seeded runs of the whole control plane.

More seeds: ``SHOAL_SIMULATION_SEEDS=100000 pytest tests/simulation``; others: ``SHOAL_SIMULATION_FIRST_SEED=1000``.
With ``PYTHONHASHSEED=0`` a seed runs the same every time (without it, sets of names are in another order each time,
which finds more).
"""

import os

import pytest

from .simulation import Options, Simulation

MI = 1 << 20
SEEDS = int(os.environ.get("SHOAL_SIMULATION_SEEDS", "40"))
FIRST = int(os.environ.get("SHOAL_SIMULATION_FIRST_SEED", "0"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_everything_converges_after_faults(seed: int) -> None:
    Simulation(seed).run()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS // 5))
def test_too_little_memory(seed: int) -> None:
    Simulation(seed, Options(models=40, capacity=60)).run()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS // 5))
def test_without_faults_every_model_is_loaded_once(seed: int) -> None:
    simulation = Simulation(seed, Options(models=30, capacity=400, faults=False))
    simulation.run()
    assert sum(pod.loads for pod in simulation.pods.values()) == 30


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS // 2))
def test_more_models_than_memory(seed: int) -> None:
    """Overcommit, requests, faults: every request is answered in the end, and what may be cold is what is unused."""
    Simulation(seed, Options(models=40, capacity=60, strict=False, requests=2.0)).run()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS // 2))
def test_all_that_users_may_write(seed: int) -> None:
    """Memory left out, bounds of copies, idle unloads, services that turn strict and back."""
    given = Options(models=30, capacity=60, strict=False, requests=4.0, unit=MI, undeclared=0.5, varied=True)
    Simulation(seed, given).run()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS // 5))
def test_pods_that_scale(seed: int) -> None:
    Simulation(seed, Options(pods=1, most_pods=4, models=30, capacity=60, strict=False, requests=4.0)).run()
