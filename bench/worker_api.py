"""Executions leased, and results of 10 KB kept, per second through HTTP; everything durable.

The controller is a process of its own; the clients are this one, on the same machine.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec

from bench import site
from bench.report import Row

RESULT_BYTES = 10_000
CLIENTS = 32
PER_CALL = 100


class _Named(msgspec.Struct):
    name: str


class _Lease(msgspec.Struct):
    epoch: int


class _Execution(msgspec.Struct):
    device: _Named
    job: _Named
    timestamp: int
    lease: _Lease


_executions = msgspec.json.Decoder(list[_Execution])


async def _lease_all(
    session: aiohttp.ClientSession, seconds: float
) -> tuple[list[_Execution], list[float], float]:
    """Lease until the time is up or nothing is left: what came, each call's time, and all of it."""
    leased: list[_Execution] = []
    calls: list[float] = []
    began = time.perf_counter()
    while not calls or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        async with session.get(f"/worker/next?max={PER_CALL}&seconds=3600") as answer:
            body = await answer.read()
        calls.append(time.perf_counter() - started)
        if not body:
            break
        leased += _executions.decode(body)
    return leased, calls, time.perf_counter() - began


async def _complete(session: aiohttp.ClientSession, execution: _Execution) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("device", execution.device.name)
    form.add_field("job_timestamp", str(execution.timestamp))
    form.add_field("start_timestamp", str(execution.timestamp))
    form.add_field("end_timestamp", str(execution.timestamp))
    content = os.urandom(RESULT_BYTES // 2).hex().encode()
    form.add_field("file", content, filename=execution.job.name)
    async with session.post("/worker/complete", data=form) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {await answer.text()}")


async def _completions_per_second(
    session: aiohttp.ClientSession, executions: Iterator[_Execution], number: int
) -> float:
    async def client() -> None:
        for execution in executions:
            await _complete(session, execution)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    return number / (time.perf_counter() - started)


def _flushed_per_second(where: Path, seconds: float) -> float:
    """The floor: the same bytes, as many at once, written and flushed without git or a ledger."""
    written = 0
    started = time.perf_counter()
    with (where / "floor").open("wb") as file:
        while time.perf_counter() - started < seconds:
            for _ in range(CLIENTS):
                file.write(os.urandom(RESULT_BYTES))
            file.flush()
            os.fsync(file.fileno())
            written += CLIENTS
    return written / (time.perf_counter() - started)


async def _measure(url: str, seconds: float, results: int) -> tuple[float, list[float], float]:
    async with aiohttp.ClientSession(url) as session:
        await _lease_all(
            session, 0
        )  # one call: connections, code and devices seen for the first time
        leased, calls, taken = await _lease_all(session, seconds)
        kept = leased[:results]
        return (
            len(leased) / taken,
            calls,
            await _completions_per_second(session, iter(kept), len(kept)),
        )


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, shorter and without the largest fleet."""
    rows: list[Row] = []
    first: dict[str, float] = {}
    for slots in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
        with site.folder() as where:
            file = site.fleet_file(where, devices=slots // 5)
            with site.controller(file) as running:
                leased, calls, kept = asyncio.run(
                    _measure(running.url, 1 if quick else 5, 500 if quick else 3_000)
                )
                peak = site.peak_megabytes(running.pid)
            floor = _flushed_per_second(where, 0.5)
        against = None if not first else "1,000 slots"
        p99 = statistics.quantiles(calls, n=100)[98] * 1000
        for name, value, unit in (
            (f"leased {PER_CALL} a call", leased, "executions/s"),
            ("p99 of a call", p99, "ms"),
        ):
            base = first.setdefault(name, value)
            rows.append(
                Row(
                    name=f"{name}, {slots:,} slots due",
                    value=value,
                    unit=unit,
                    compared_to=against,
                    ratio=value / base if against else None,
                )
            )
        rows += [
            Row(
                name=f"results kept, {CLIENTS} clients, {slots // 5:,} devices",
                value=kept,
                unit="results/s",
                compared_to="the same bytes written and flushed",
                ratio=kept / floor,
            ),
            Row(name="controller's memory at most", value=peak, unit="MB"),
        ]
    return rows
