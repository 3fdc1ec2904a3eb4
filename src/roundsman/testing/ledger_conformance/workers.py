"""Workers and their tokens."""

from roundsman.ledger.interface import (
    Ledger,
)
from roundsman.testing.ledger_conformance.helpers import (
    NOW,
    process,
    worker,
)


class Workers:
    """Workers and their tokens."""

    async def test_a_worker_is_kept_with_the_digest_of_its_token(self, ledger: Ledger) -> None:
        await ledger.add_worker(worker("w1", "b"), "digest-1")
        await ledger.add_worker(worker("w2", "a"), "digest-2")
        assert await ledger.workers() == [worker("w2", "a"), worker("w1", "b")]
        assert await ledger.worker("w1") == worker("w1", "b")
        assert await ledger.worker("w3") is None
        assert await ledger.worker_tokens() == {"digest-1": "w1", "digest-2": "w2"}

    async def test_touching_notes_what_it_said_and_leaves_the_rest(self, ledger: Ledger) -> None:
        await ledger.add_worker(worker(), "digest-1")
        assert await ledger.touch_worker("w1", now=NOW + 5)
        assert await ledger.touch_worker("w1", now=NOW + 9.5, version="1.1", tags=["a", "b"])
        known = await ledger.worker("w1")
        assert known is not None
        assert (known.seen_at, known.version, known.tags) == (NOW + 9.5, "1.1", ("a", "b"))
        assert (known.address, known.enrolled_at) == ("192.0.2.1", NOW)
        assert await ledger.touch_worker("w1", now=NOW + 10, address="192.0.2.2", tags=[])
        known = await ledger.worker("w1")
        assert known is not None
        assert (known.address, known.tags) == ("192.0.2.2", ())
        assert known.allowed_tags == ("dmz", "lab")  # not for the worker to say
        assert not await ledger.touch_worker("w2", now=NOW)

    async def test_a_removed_worker_is_forgotten_with_its_token(self, ledger: Ledger) -> None:
        await ledger.add_worker(worker(), "digest-1")
        await ledger.add_process(process())
        assert await ledger.remove_worker("w1")
        assert not await ledger.remove_worker("w1")
        assert await ledger.workers() == []
        assert await ledger.worker_tokens() == {}
        assert await ledger.process("p1") == process()
