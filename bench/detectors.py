"""What the search for secrets costs, on configurations that have been filtered already.

The comparison is with all platforms' secret filters over the same texts.
"""

import time
from collections.abc import Callable

from bench.report import Row
from roundsman.platforms import load
from roundsman.simulator.kinds import State, ios_config, junos_config
from roundsman.worker.detectors import scan
from roundsman.worker.scrubbers import Scrubbers

BYTES = 20_480
TEXTS = 20


def run(quick: bool) -> list[Row]:
    """Milliseconds of CPU for each text of 20 KB."""
    rounds = 3 if quick else 20
    makers = ((ios_config, "cisco_ios"), (junos_config, "juniper_junos"))
    texts = [
        b"".join(
            Scrubbers(load.by_name(platform).secrets).apply(
                [make(State(host=f"r{number}", config_bytes=BYTES)).encode()]
            )
        )
        for make, platform in makers
        for number in range(TEXTS)
    ]
    every = [Scrubbers(load.by_name(name).secrets) for name in load.own_names()]
    filters = _milliseconds(
        texts[::10], lambda text: [b"".join(platform.apply([text])) for platform in every]
    )
    first = min(_first(texts) for _ in range(rounds))
    again = min(_milliseconds(texts, scan.find) for _ in range(rounds))
    return [
        _row("all platforms' secret filters", filters, filters),
        _row("search, lines never seen", first, filters),
        _row("search, lines seen before", again, filters),
    ]


def _row(name: str, value: float, filters: float) -> Row:
    return Row(
        name=name,
        value=value,
        unit="ms of CPU per 20 KB",
        compared_to="all filters",
        ratio=value / filters,
    )


def _first(texts: list[bytes]) -> float:
    scan._clean.clear()  # as a worker that has just started
    return _milliseconds(texts[:1], scan.find)


def _milliseconds(texts: list[bytes], work: Callable[[bytes], object]) -> float:
    start = time.process_time()
    for text in texts:
        work(text)
    return (time.process_time() - start) * 1000 / len(texts)
