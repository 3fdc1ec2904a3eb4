"""Opening and closing."""

import pytest

from roundsman.ledger.interface import (
    Ledger,
    LedgerUnavailableError,
)
from roundsman.testing.ledger_conformance.helpers import (
    NOW,
    claim,
    names,
    planned,
)


class Life:
    """Opening and closing."""

    async def test_it_says_whether_it_serves(self, ledger: Ledger) -> None:
        await ledger.check()
        await ledger.close()
        await ledger.close()
        with pytest.raises(LedgerUnavailableError):
            await ledger.check()
        with pytest.raises(LedgerUnavailableError):
            await claim(ledger)
        with pytest.raises(LedgerUnavailableError):
            await ledger.pauses()

    async def test_one_that_was_closed_can_be_opened_again(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await ledger.close()
        await ledger.open()
        assert names(await claim(ledger)) == ["d"]
