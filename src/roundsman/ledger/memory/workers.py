"""Workers and the digests of their tokens."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.memory.tables import Tables
from roundsman.wire.worker import Worker


class Workers(Tables):
    """Workers come, are seen, and go."""

    async def add_worker(self, worker: Worker, token_digest: str) -> None:
        self._must_be_open()
        self._workers[worker.worker_id] = msgspec.structs.replace(worker, connected=False)
        self._tokens[token_digest] = worker.worker_id

    async def worker_tokens(self) -> dict[str, str]:
        self._must_be_open()
        return dict(self._tokens)

    async def touch_worker(
        self,
        worker_id: str,
        *,
        now: float,
        address: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> bool:
        self._must_be_open()
        worker = self._workers.get(worker_id)
        if worker is None:
            return False
        self._workers[worker_id] = msgspec.structs.replace(
            worker,
            seen_at=now,
            address=worker.address if address is None else address,
            version=worker.version if version is None else version,
            tags=worker.tags if tags is None else tuple(tags),
        )
        return True

    async def workers(self) -> list[Worker]:
        self._must_be_open()
        return sorted(self._workers.values(), key=lambda worker: (worker.name, worker.worker_id))

    async def worker(self, worker_id: str) -> Worker | None:
        self._must_be_open()
        return self._workers.get(worker_id)

    async def remove_worker(self, worker_id: str) -> bool:
        self._must_be_open()
        self._tokens = {
            digest: owner for digest, owner in self._tokens.items() if owner != worker_id
        }
        return self._workers.pop(worker_id, None) is not None
