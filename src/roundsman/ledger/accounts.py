"""Accounts of slots as they are put together from rows: what the drivers with SQL share."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import Page, PlanEpoch, SlotAccount, Span, TagFilter, Tally
from roundsman.ledger.spans import in_order
from roundsman.wire.run import Cause, Outcome, SlotState


class Account:
    """One pair's; the values are those of columns."""

    def __init__(self) -> None:
        """Nothing was read of it."""
        self.tags: Tags = ()
        self.plans: list[PlanEpoch] = []
        self.open_due: int | None = None
        self.state: SlotState | None = None
        self.attempts = 0
        self._tallies: list[Tally] = []
        self._cut: list[Span] = []

    def add_tally(self, outcome: str, cause: str | None, *, on_demand: bool, count: int) -> None:
        """Add runs that lie within the time asked about."""
        self._tallies.append(
            Tally(
                outcome=Outcome(outcome),
                cause=_cause(cause),
                on_demand=on_demand,
                count=count,
            )
        )

    def add_span(
        self,
        outcome: str,
        first_due: int,
        last_due: int,
        *,
        count: int,
        reason: str | None,
        cause: str | None,
    ) -> None:
        """Add a run that goes beyond the time asked about."""
        self._cut.append(
            Span(
                outcome=Outcome(outcome),
                first_due=first_due,
                last_due=last_due,
                count=count,
                reason=reason,
                cause=_cause(cause),
            )
        )

    def told(self, device: str, job: str) -> SlotAccount:
        """All that was read."""
        return SlotAccount(
            device=device,
            job=job,
            tags=self.tags,
            plans=tuple(self.plans),
            tallies=in_order(self._tallies),
            cut=tuple(self._cut),
            open_due=self.open_due,
            state=self.state,
            attempts=self.attempts,
        )


def page(
    pairs: Sequence[cursors.SlotPlace], found: Sequence[Account], *, more: bool
) -> Page[SlotAccount]:
    """The accounts of pairs; whether there are `more` behind them."""
    return Page(
        items=tuple(
            each.told(device, job) for (device, job), each in zip(pairs, found, strict=True)
        ),
        next=cursors.encode(pairs[-1]) if more else None,
    )


def filter_text(tags: TagFilter | None) -> str:
    """What a presence asked for as a text, equal ones alike."""
    if tags is None:
        return ""
    parts = [None if part is None else sorted(part) for part in (tags.any_of, tags.within)]
    return msgspec.json.encode(parts).decode()


def filter_of(text: str) -> TagFilter | None:
    """What `filter_text` made a text of."""
    if not text:
        return None
    any_of, within = msgspec.json.decode(
        text, type=tuple[frozenset[str] | None, frozenset[str] | None]
    )
    return TagFilter(any_of=any_of, within=within)


def _cause(column: str | None) -> Cause | None:
    return None if column is None else Cause(column)
