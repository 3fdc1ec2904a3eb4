"""What every test shares: the seed.

A test that wants chance takes the fixture ``rng``. The seed is printed at the head of every run,
and again with a test that failed; ROUNDSMAN_SEED=<seed> repeats the run, hypothesis included.
"""

import os
import random

import pytest
from hypothesis import HealthCheck, settings

SEED_VARIABLE = "ROUNDSMAN_SEED"

# Neither a deadline nor a look at the speed: two busy cores are slow at times, and pytest-timeout
# ends what hangs.
settings.register_profile(
    "roundsman", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("roundsman")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # In the environment, so that the processes of pytest-xdist, started after this, agree on it.
    seed = os.environ.setdefault(SEED_VARIABLE, str(random.SystemRandom().randrange(2**32)))
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = seed


def pytest_report_header() -> str:
    return f"seed: {SEED_VARIABLE}={os.environ[SEED_VARIABLE]}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that depends on the run's seed and the test's name alone, not on its neighbours."""
    seed = os.environ[SEED_VARIABLE]
    print(f"{SEED_VARIABLE}={seed}")  # captured; pytest shows it with a failure
    return random.Random(f"{seed} {request.node.nodeid}")
