"""`python -m bench [--quick] [NAME ...]`: run the measurements and print one table.

Figures depend on the machine; ratios are against a peer or a floor measured in the same run.
"""

import argparse
import importlib
import platform
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.report import Row

BENCHMARKS: Final = {
    "startup": "how soon the program and a large controller are ready, and in what memory",
    "ledger_claims": "leases and finishes of the ledger alone",
    "ledger_postgresql": "claims of the ledger on PostgreSQL, whatever the fleet",
    "leasing": "executions leased through HTTP: one controller on SQLite, two on PostgreSQL",
    "archive": "results stored by the archive alone",
    "size": "how small a fleet's history is kept, beside git gc --aggressive",
    "reading": "versions, differences and searches of the archive",
    "worker_api": "results kept, through HTTP",
    "large_results": "memory of worker and controller with eight large results at once",
    "fleet": "commands started and queried, through HTTP",
    "crossing": "the same through a controller that is not the worker's",
    "many_workers": "many workers on one controller: memory, a command on all, a silent one",
    "sessions": "device sessions beside other programs",
    "memory": "a worker with a thousand sessions open",
    "sweep": "a sweep in which some devices are dead and some stall",
    "filters": "removing secrets and noise, platform by platform",
    "detectors": "the search for secrets that slipped through",
}
"""Module to what it measures."""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _print(name: str, rows: list[Row], console: Console) -> None:
    table = Table(title=f"{name}: {BENCHMARKS[name]}", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("ratio", justify="right")
    table.add_column("against")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, _number(row.value), row.unit, ratio, row.compared_to or "")
    console.print(table)


def main() -> None:
    """Run what was asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="shorter and smaller, for a look")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; expected some of {', '.join(BENCHMARKS)}")
    console = Console()
    console.print(f"{platform.machine()}, Python {platform.python_version()}")
    for name in asked.names or BENCHMARKS:
        module = importlib.import_module(f"bench.{name}")
        _print(name, module.run(asked.quick), console)


if __name__ == "__main__":
    main()
