"""Outputs of many workers on one terminal: each line with its worker's name, and results below."""

import itertools
from collections.abc import Sequence
from typing import Final, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from roundsman.wire.batch import BatchReport
from roundsman.wire.process import OutputChunk, Process, ProcessState

COLOURS: Final = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_magenta")
NAME_CHARACTERS: Final = 24
LINE_BYTES: Final = 8192
"""A line is shown when it ends, or when it is so long."""

_Stream = tuple[str, str]  # the process, and which of its streams


class SideBySide:
    """For people: whole lines, in the order in which they came."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        """What processes write to standard output goes to `out`, all else to `err`."""
        self._out = Console(file=out, highlight=False, soft_wrap=True)
        self._err = Console(file=err, highlight=False, soft_wrap=True)
        self._lines: dict[_Stream, bytearray] = {}
        self._names: dict[str, str] = {}
        self._colours: dict[str, str] = {}
        self._width = 0

    def begin(self, batch_id: str, names: Sequence[str]) -> None:
        """It begins on these workers."""
        self._colours = dict(zip(names, itertools.cycle(COLOURS), strict=False))
        self._width = min(NAME_CHARACTERS, max(map(len, names), default=0))
        workers = "1 worker" if len(names) == 1 else f"{len(names)} workers"
        self._err.print(f"on {workers}, batch {batch_id}", style="dim")

    def chunk(self, name: str, process: Process, chunk: OutputChunk) -> None:
        """A worker's process wrote something."""
        stream = (process.process_id, chunk.stream)
        self._names[process.process_id] = name
        pending = self._lines.setdefault(stream, bytearray())
        pending += chunk.data
        *whole, rest = pending.split(b"\n")
        while len(rest) > LINE_BYTES:
            whole.append(rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        for line in whole:
            self._show(name, chunk.stream, bytes(line))
        self._lines[stream] = bytearray(rest)

    def remark(self, text: str) -> None:
        """Something that is to be known."""
        self._err.print(Text(text, "yellow"))

    def end(self, report: BatchReport, names: dict[str, str]) -> None:
        """The lines that were not ended, and how it ended on each worker."""
        for (process_id, stream), rest in self._lines.items():
            if rest:
                self._show(self._names[process_id], stream, bytes(rest))
        self._err.print(self._results(report, names))
        succeeded = len(report.processes) - report.failed
        if report.succeeded:
            everywhere = "1 worker" if succeeded == 1 else f"all {succeeded} workers"
            self._err.print(Text(f"succeeded on {everywhere}", "bold green"))
            return
        total = len(report.processes)
        text = Text(f"succeeded on {succeeded} of {total} workers", "bold red")
        if report.batch.reason is not None:
            text.append(f": {report.batch.reason}", "not bold")
        self._err.print(text)

    def _show(self, name: str, stream: str, line: bytes) -> None:
        console = self._out if stream == "stdout" else self._err
        colour = self._colours.get(name, "")
        shown = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        if console.is_terminal:  # what a program writes must not steer the terminal
            text = "".join(
                c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text
            )
        style = {"stderr": "red", "roundsman": "yellow"}.get(stream, "")
        console.print(Text.assemble((f"{shown:{self._width}} │ ", colour), (text, style)))

    def _results(self, report: BatchReport, names: dict[str, str]) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(overflow="fold")
        for process in report.processes:
            name = names.get(process.worker_id, process.worker_id)
            good = process.state is ProcessState.ENDED and process.exit_status == 0
            table.add_row(
                Text(name, self._colours.get(name, "")),
                Text(_ending(process), "green" if good else "red"),
                Text(_seconds(process), "dim"),
                Text("" if good else process.cause or process.error or "", "dim"),
            )
        return table


def _ending(process: Process) -> str:
    """How it ended, in two words."""
    if process.state is not ProcessState.ENDED:
        return process.state.value
    if process.signal is not None:
        return f"signal {process.signal}"
    return f"exit {process.exit_status}"


def _seconds(process: Process) -> str:
    if process.started_at is None or process.ended_at is None:
        return ""
    return f"{max(0.0, process.ended_at - process.started_at):.1f} s"


class JsonLines:
    """For programs: an object for each piece of output, and at the end the report."""

    def __init__(self, out: TextIO) -> None:
        """Write there."""
        self._out = out

    def begin(self, batch_id: str, names: Sequence[str]) -> None:
        """It begins on these workers."""
        self._write({"type": "begin", "batch_id": batch_id, "workers": list(names)})

    def chunk(self, name: str, process: Process, chunk: OutputChunk) -> None:
        """A worker's process wrote something: text, bytes that are none replaced."""
        self._write(
            {
                "type": "output",
                "worker": name,
                "worker_id": process.worker_id,
                "process_id": process.process_id,
                "number": chunk.number,
                "stream": chunk.stream,
                "at": chunk.at,
                "text": chunk.data.decode("utf-8", "replace"),
            }
        )

    def remark(self, text: str) -> None:
        """Something that is to be known."""
        self._write({"type": "remark", "text": text})

    def end(self, report: BatchReport, names: dict[str, str]) -> None:
        """The report, with the names of the workers by id."""
        known = {each.worker_id: names.get(each.worker_id, "") for each in report.processes}
        self._write({"type": "end", "workers": known, **msgspec.structs.asdict(report)})

    def _write(self, said: dict[str, object]) -> None:
        self._out.write(msgspec.json.encode(said).decode() + "\n")
        self._out.flush()
