"""What is known of the results of slots."""

import msgspec

from roundsman.ledger.interface import KeptResult
from roundsman.ledger.memory.tables import Tables


class Results(Tables):
    """Results are asked for, and accepted."""

    async def result_of(self, device: str, job: str) -> KeptResult | None:
        self._must_be_open()
        row = self._slots.get((device, job))
        return None if row is None else row.result

    async def accept(
        self, run_id: str, *, version: str, changed: bool, by: str, now: float
    ) -> bool:
        self._must_be_open()
        for row in self._slots.values():
            waiting = row.result.quarantined if row.result is not None else None
            if waiting is not None and waiting.run_id == run_id:
                row.result = KeptResult(extent=waiting.extent)
                self._runs = [
                    msgspec.structs.replace(
                        run, version=version, changed=changed, accepted_by=by, accepted_at=now
                    )
                    if run.run_id == run_id
                    else run
                    for run in self._runs
                ]
                return True
        return False
