"""Workers at other controllers: who has them, and what is asked of them, as rows."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeVar

import msgspec
from asyncpg import Record

from roundsman.clock import Clock
from roundsman.ledger.crossing import Connection, Crossing, Order, OrderAnswer
from roundsman.ledger.postgresql import processes
from roundsman.ledger.postgresql.batches import CARRY_SECONDS
from roundsman.ledger.postgresql.database import Database
from roundsman.ledger.postgresql.doorbell import Doorbell
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.sql_files import all_of
from roundsman.wire import codec
from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import Bound, StartProcess, StopProcess
from roundsman.wire.controller import ALIVE_SECONDS
from roundsman.wire.process import Process

T = TypeVar("T")

SQL = load("crossing")
FORGET_SECONDS: Final = 60.0

_start = codec.decoder(StartProcess)
_stop = codec.decoder(StopProcess)
_bounds = msgspec.json.Decoder(tuple[Bound, ...])
_answer = msgspec.json.Decoder(OrderAnswer)


class PostgresqlCrossing(Crossing):
    """One controller's view."""

    def __init__(
        self,
        controller_id: str,
        *,
        database: Callable[[], Database],
        doorbell: Doorbell,
        clock: Clock,
    ) -> None:
        """`database` gives the one that is open, or raises; the clock is the database's."""
        self._controller_id = controller_id
        self._database = database
        self._doorbell = doorbell
        self._clock = clock

    # who has whom

    async def connect(self, worker_id: str) -> int:
        fields = {"worker_id": worker_id, "controller_id": self._controller_id}
        while True:
            # None: somebody was faster whose term is larger; then this one's turn comes after it.
            term = await self._do(lambda c: SQL["connect"].value(c, **fields))
            if term is not None:
                return int(term)

    async def make_ready(self, worker_id: str, term: int, bounds: Sequence[Bound]) -> bool:
        text = msgspec.json.encode(bounds).decode()
        made = await self._do(
            lambda c: SQL["make_ready"].value(c, worker_id=worker_id, term=term, bounds=text)
        )
        return bool(made)

    async def disconnect(self, worker_id: str, term: int) -> None:
        await self._do(lambda c: SQL["disconnect"].rows(c, worker_id=worker_id, term=term))

    async def connections(self, worker_ids: Collection[str] | None = None) -> list[Connection]:
        statement = SQL["connections"].formed(
            filters=all_of({"c.worker_id = ANY(:worker_ids::text[])": worker_ids is not None})
        )
        named = None if worker_ids is None else list(worker_ids)
        rows = await self._do(
            lambda c: statement.rows(c, alive_since=self._alive_since(), worker_ids=named)
        )
        return [_connection(row) for row in rows]

    async def terms(self) -> dict[str, int]:
        rows = await self._do(lambda c: SQL["terms"].rows(c, controller_id=self._controller_id))
        return {row["worker_id"]: row["term"] for row in rows}

    # orders

    async def start(
        self, process: Process, audit: Sequence[AuditEntry], order: Order
    ) -> Connection | None:
        async def begin(link: Link) -> Connection | None:
            row = await SQL["hold_place"].row(
                link, worker_id=process.worker_id, alive_since=self._alive_since()
            )
            if row is None:
                return None
            await processes.add(link, process, audit)
            if row["controller_id"] != self._controller_id:
                await SQL["add_order"].rows(link, commit="on", **_row(order))
            return _connection(row)

        return await self._database().transact(begin)

    async def order(self, order: Order) -> bool:
        commit = "on" if order.asked_by is None else "off"
        row = await self._do(lambda c: SQL["add_order"].row(c, commit=commit, **_row(order)))
        return row is not None

    async def take(self) -> list[Order]:
        fields = {"controller_id": self._controller_id, "now": self._clock.now()}
        rows = await self._do(lambda c: SQL["take_orders"].rows(c, **fields))
        return [
            Order(
                order_id=row["order_id"],
                worker_id=row["worker_id"],
                message=(_start if row["starts"] else _stop).decode(row["message"]),
                not_after=row["not_after"],
                asked_by=row["asked_by"],
            )
            for row in rows
        ]

    async def answer(self, order_id: str, answer: OrderAnswer) -> None:
        text = msgspec.json.encode(answer).decode()
        await self._do(lambda c: SQL["answer_order"].rows(c, order_id=order_id, answer=text))

    async def answers(self) -> dict[str, OrderAnswer]:
        rows = await self._do(
            lambda c: SQL["take_answers"].rows(c, controller_id=self._controller_id)
        )
        return {row["order_id"]: _answer.decode(row["answer"]) for row in rows}

    async def withdraw(self, order_id: str) -> OrderAnswer | None:
        text = await self._do(lambda c: SQL["withdraw_order"].value(c, order_id=order_id))
        return None if text is None else _answer.decode(text)

    async def forget(self) -> None:
        before = self._clock.now() - FORGET_SECONDS
        await self._do(lambda c: SQL["forget_orders"].rows(c, before=before))

    async def ordered_starts(self, worker_id: str) -> set[str]:
        now = self._clock.now()
        rows = await self._do(
            lambda c: SQL["ordered_starts"].column(c, worker_id=worker_id, now=now)
        )
        return set(rows)

    # batches

    async def carry(self) -> set[str]:
        now = self._clock.now()
        fields = {"controller_id": self._controller_id, "now": now, "until": now + CARRY_SECONDS}

        async def look(link: Link) -> set[str]:
            await SQL["carry_on"].rows(link, **fields)
            await SQL["take_up"].rows(link, **fields)
            return set(await SQL["carried"].column(link, **fields))

        return await self._do(look)

    # ringing

    async def ring_all(self, text: str) -> None:
        fields = {"controller_id": self._controller_id, "alive_since": self._alive_since()}
        await self._do(lambda c: SQL["ring_all"].rows(c, text=text, **fields))

    async def listen(self, heard: Callable[[str], None]) -> None:
        await self._doorbell.listen(
            f"roundsman_{self._controller_id}", heard, ring=self._ring_myself
        )

    @property
    def deaf(self) -> str | None:
        return self._doorbell.deaf

    async def leave(self) -> None:
        async def leave(link: Link) -> None:
            await SQL["disconnect_all"].rows(link, controller_id=self._controller_id)
            await SQL["leave_batches"].rows(link, controller_id=self._controller_id)

        await self._do(leave)

    async def _ring_myself(self, text: str) -> None:
        fields = {"controller_id": self._controller_id, "text": text}
        await self._do(lambda c: SQL["ring"].rows(c, **fields))

    async def _do(self, work: Callable[[Link], Awaitable[T]]) -> T:
        return await self._database().do(work)

    def _alive_since(self) -> float:
        return self._clock.now() - ALIVE_SECONDS


def _connection(row: Record) -> Connection:
    return Connection(
        worker_id=row["worker_id"],
        controller_id=row["controller_id"],
        term=row["term"],
        bounds=_bounds.decode(row["bounds"]),
    )


def _row(order: Order) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "worker_id": order.worker_id,
        "process_id": order.message.process_id,
        "starts": isinstance(order.message, StartProcess),
        "asked_by": order.asked_by,
        "not_after": order.not_after,
        "message": codec.encode(order.message).decode(),
    }
