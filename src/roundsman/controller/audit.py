"""The audit: who tried to change what, from where, and what became of it.

What is carried out elsewhere is written before it is begun, in one transaction with what begins
it, and again with its outcome. Attempts that bear no right to the call are written once and then
counted for a while, so that whoever has no credential cannot fill the disk.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.access import Principal
from roundsman.errors import RoundsmanError
from roundsman.ledger.interface import Ledger, LedgerUnavailableError
from roundsman.wire.audit import AskedCommand, AuditAction, AuditEntry, AuditOutcome, AuditQuery
from roundsman.wire.page import Page

log = logs.get(__name__)

COUNTED_SECONDS: Final = 60.0
"""How long attempts without a right to the call are counted before the count is written."""
ARGUMENT_CHARACTERS: Final = 1000
ARGUMENTS: Final = 100
ERROR_CHARACTERS: Final = 500
_MOST_COUNTED: Final = (
    1000  # kinds of attempts counted at once; beyond, addresses are not told apart
)
_PAGE: Final = 1000

_Kind = tuple[AuditAction, str | None, str | None, str | None]


@dataclass(slots=True)
class _Counted:
    """Attempts of one kind since the last line that was written of them."""

    entry: AuditEntry
    more: int = 0


class Audit:
    """Writes the lines, and reads them."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        """Nothing is counted yet."""
        self._ledger = ledger
        self._clock = clock
        self._counted: dict[_Kind, _Counted] = {}

    def entry(
        self,
        action: AuditAction,
        outcome: AuditOutcome,
        *,
        by: Principal | None,
        reason: str | None = None,
        code: str | None = None,
        **about: Any,
    ) -> AuditEntry:
        """A line as of now; `about` are further fields of it."""
        return AuditEntry(
            at=self._clock.now(),
            action=action,
            outcome=outcome,
            by=None if by is None else by.name,
            role=None if by is None else by.role.value,
            address=None if by is None else by.address,
            error=None if reason is None else reason[:ERROR_CHARACTERS],
            code=code,
            **about,
        )

    def after(
        self, requested: AuditEntry, outcome: AuditOutcome, error: RoundsmanError | None = None
    ) -> AuditEntry:
        """What became of what a line says was requested, as of now."""
        return msgspec.structs.replace(
            requested,
            at=self._clock.now(),
            outcome=outcome,
            error=None if error is None else error.sentence[:ERROR_CHARACTERS],
            code=None if error is None else error.code,
        )

    async def write(self, *entries: AuditEntry) -> None:
        """Keep lines. What cannot be kept is logged: what they tell of has happened."""
        try:
            await self._ledger.add_audit(entries)
        except LedgerUnavailableError as error:
            for entry in entries:
                log.error("audit.not_kept", reason=str(error), **msgspec.structs.asdict(entry))

    async def count(self, entry: AuditEntry) -> None:
        """Keep the first of its kind, and count the others until the next look."""
        kind = (entry.action, entry.by, entry.address, entry.code)
        if kind not in self._counted and len(self._counted) >= _MOST_COUNTED:
            entry = msgspec.structs.replace(entry, by=None, address=None)
            kind = (entry.action, None, None, entry.code)
        if (counted := self._counted.get(kind)) is not None:
            counted.entry = entry
            counted.more += 1
        else:
            self._counted[kind] = _Counted(entry)
            await self.write(entry)

    async def run(self) -> None:
        """Write each minute how many more there were; until cancelled."""
        while True:
            await self._clock.sleep(COUNTED_SECONDS)
            await self.run_once()

    async def run_once(self) -> None:
        """Write how many more there were since the last look, and forget who is silent."""
        counted, self._counted = self._counted, {}
        await self.write(
            *(
                msgspec.structs.replace(each.entry, count=each.more)
                for each in counted.values()
                if each.more
            )
        )

    async def page(self, query: AuditQuery) -> Page[AuditEntry]:
        """Lines, newest first."""
        return await self._ledger.audit(query)

    async def lines(self, query: AuditQuery) -> AsyncIterator[bytes]:
        """All of them as JSON lines, oldest first, some at a time."""
        after: str | None = None
        encoder = msgspec.json.Encoder()
        while True:
            page = await self._ledger.audit(
                msgspec.structs.replace(query, oldest_first=True, after=after, limit=_PAGE)
            )
            yield encoder.encode_lines(page.items)
            after = page.next
            if after is None:
                return


def asked(
    command: str,
    arguments: Sequence[str],
    environment: Iterable[str] = (),
    standard_input: bytes = b"",
) -> AskedCommand:
    """What the audit keeps of a command: of its environment the names, nothing of its input."""
    return AskedCommand(
        command=command[:ARGUMENT_CHARACTERS],
        arguments=tuple(text[:ARGUMENT_CHARACTERS] for text in arguments[:ARGUMENTS]),
        environment=tuple(sorted(environment)),
        standard_input_bytes=len(standard_input),
        standard_input_sha256=hashlib.sha256(standard_input).hexdigest()
        if standard_input
        else None,
    )
