"""Seeded runs of the whole control plane.

More seeds: ``SHOAL_SIMULATION_SEEDS=100000 pytest tests/simulation``; others: ``SHOAL_SIMULATION_FIRST_SEED=1000``.
With ``PYTHONHASHSEED=0`` a seed runs the same every time (without it, sets of names are in another order each time,
which finds more).
"""

import os

import pytest

from .simulation import Options, Simulation

SEEDS = int(os.environ.get("SHOAL_SIMULATION_SEEDS", "150"))
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


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_more_models_than_memory(seed: int) -> None:
    """Overcommit, requests, faults: every request is answered in the end, and what may be cold is what is unused."""
    Simulation(seed, Options(models=40, capacity=60, strict=False, requests=2.0)).run()
