"""`make corpus`: every recorded device, played in every way, over SSH and Telnet.

Where the device pauses, a session is idle nearly all of the time: many are played at once. Beside
them the others are read, a few at a time. One process for each core.
"""

import argparse
import asyncio
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.worker.sessions import cases, corpus
from tests.worker.sessions.cases import Case, Verdict

PAUSED_AT_ONCE = 24
BUSY_AT_ONCE = 4
SHOWN_SECONDS = 60

Counts = Counter[tuple[str, str, str]]


def paused() -> list[Case]:
    """The longest first, so that the last to end is not the last to begin."""
    made = (
        case
        for path in corpus.recordings()
        for case in cases.whole_and_in_pieces(path, paused=True)
    )
    return sorted(made, key=lambda case: -case.pauses)


def busy() -> Iterator[Case]:
    for path in corpus.recordings():
        yield from cases.whole_and_in_pieces(path, paused=False)
        yield from cases.lured(path)
        yield from cases.varied(path)
        yield from cases.cut(path)


class Sweep:
    """The share of one process."""

    def __init__(self, number: int, of: int, *, with_pauses: bool) -> None:
        self._paused = iter(paused()[number::of] if with_pauses else ())
        self._busy = itertools.islice(busy(), number, None, of)
        self._number = number
        self._began = time.monotonic()
        self.counts: Counts = Counter()
        self.wrong: list[str] = []

    async def run(self) -> None:
        loops = [self._judge_all(self._paused) for _ in range(PAUSED_AT_ONCE)]
        loops += [self._judge_all(self._busy) for _ in range(BUSY_AT_ONCE)]
        shown = asyncio.create_task(self._show())
        await asyncio.gather(*loops)
        shown.cancel()

    async def _judge_all(self, shared: Iterator[Case]) -> None:
        for case in shared:
            try:
                verdict, why = await case.judge(patient=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this case
                verdict, why = Verdict.WRONG, repr(error)
            self.counts[case.way, case.protocol, verdict] += 1
            if verdict is Verdict.WRONG:
                said = f"{case.recording}, {case.way}, {case.protocol}, {case.faults}: {why}"
                self.wrong.append(said)
                print("WRONG", said, flush=True)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(SHOWN_SECONDS)
            minutes = (time.monotonic() - self._began) / 60
            print(
                f"{minutes:.0f} min, process {self._number}: {self.counts.total()} judged",
                flush=True,
            )


def share(number: int, of: int, with_pauses: bool, into: "multiprocessing.Queue[object]") -> None:
    sweep = Sweep(number, of, with_pauses=with_pauses)
    asyncio.run(sweep.run())
    into.put((sweep.counts, sweep.wrong))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--without-pauses", action="store_true")
    arguments = parser.parse_args()
    if not corpus.recordings():
        print(f"no recordings in {corpus.OXIDIZED}: set ROUNDSMAN_CORPUS to where they are")
        return 1
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[Counts, list[str]]] = context.Queue()
    processes = [
        context.Process(
            target=share,
            args=(number, arguments.processes, not arguments.without_pauses, results),
        )
        for number in range(arguments.processes)
    ]
    for process in processes:
        process.start()
    ended = [results.get() for _ in processes]
    counts: Counts = sum((counts for counts, _ in ended), Counter())
    wrong = [said for _, said_there in ended for said in said_there]
    for (way, protocol, verdict), count in sorted(counts.items()):
        print(f"{way:28} {protocol:7} {verdict:8} {count:6}")
    minutes = (time.monotonic() - began) / 60
    print(f"{len(corpus.recordings())} recordings, {counts.total()} sessions, {len(wrong)} wrong")
    print(f"{minutes:.1f} minutes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
