"""Commands through one controller to workers at another, while they are killed: each at most once,
each with its true end, none lost. The long form is `make torture`'s."""

import os
import random
from pathlib import Path

import pytest

from tests.ledger.conftest import postgresql_server, postgresql_url
from tests.torture.orders import Site, judge

__all__ = ["postgresql_server", "postgresql_url"]

TORTURE = bool(os.environ.get("ROUNDSMAN_TORTURE"))
KILLS = int(os.environ.get("ROUNDSMAN_ORDERS_KILLS", "100"))


@pytest.mark.skipif(not TORTURE, reason="make torture: some minutes")
@pytest.mark.timeout(KILLS * 60 + 300)
async def test_orders_across_kills(tmp_path: Path, postgresql_url: str, rng: random.Random) -> None:
    async with Site(tmp_path, postgresql_url, rng).running() as site:
        await site.rage(KILLS, pause=2)
        counts, faults = judge(site, await site.settled())
        print(dict(counts))
        assert not faults, "\n".join([f"{len(faults)} faults", *faults[:40]])
        assert counts["started"]
