"""Holds what was planned against what came of it, by what the parts say that know nothing of each
other: the ledger's history, the git repository, and the devices."""

import sqlite3
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from roundsman.client import ControllerClient
from roundsman.wire import codec
from roundsman.wire.accounts import SlotTotals
from roundsman.wire.run import Outcome, Run, Slot, SlotState
from tests.archive.stock_git import StockGit
from tests.torture.fire.devices import LAST, LINES, LOGIN, Touch
from tests.torture.fire.site import JOB
from tests.torture.fire.worker import content

OUTCOMES: Final = {Outcome.SUCCEEDED, Outcome.FAILED, Outcome.COALESCED, Outcome.MISSED}
PAGE: Final = 1000
LATE_SECONDS: Final = 2.0
"""How late the devices may see what was sent before, while the machine is busy. Who speaks that
should not any more was stopped for longer than its lease, and comes later by far."""

_totals = codec.decoder(SlotTotals)


@dataclass
class Findings:
    """What is wrong, and what there was."""

    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def hold(self, right: object, text: str) -> None:
        """Note `text` unless that is so."""
        if not right:
            self.faults.append(text)


@dataclass(frozen=True)
class History:
    """What the ledger says."""

    runs: Sequence[Run]
    slots: Sequence[Slot]
    totals: SlotTotals

    @property
    def succeeded(self) -> list[Run]:
        return [run for run in self.runs if run.outcome is Outcome.SUCCEEDED]


async def read_history(url: str) -> History:
    """All of it, by one controller."""
    runs: list[Run] = []
    slots: list[Slot] = []
    async with ControllerClient(url) as client:
        after = None
        while True:
            page = await client.manage.runs(after=after, limit=PAGE)
            runs += page.items
            if (after := page.next) is None:
                break
        while True:
            found = await client.manage.slots(after=after, limit=PAGE)
            slots += found.items
            if (after := found.next) is None:
                break
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/api/v1/audit/slots/totals") as answer,
    ):
        assert answer.status == 200, await answer.text()
        totals = _totals.decode(await answer.read())
    return History(runs, slots, totals)


def check_accounts(history: History, period: int, findings: Findings) -> None:
    """Each planned time has exactly one outcome: by the controller's audit, and by counting."""
    totals = history.totals
    findings.hold(
        totals.differing == 0 and totals.balance.difference == 0,
        f"the audit has {totals.differing} slots with a difference: {totals.balance}",
    )
    outcomes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for run in history.runs:
        findings.counts[f"{run.outcome} {run.cause}" if run.cause else run.outcome] += run.count
        if run.outcome in OUTCOMES:
            outcomes[run.device].update(_dues(run, period, findings))
    for slot in history.slots:
        dues = outcomes[slot.device]
        several = {due: count for due, count in dues.items() if count != 1}
        findings.hold(not several, f"{slot.device}: several outcomes for {several}")
        if slot.due is None:
            findings.hold(False, f"{slot.device}: never due again")
            continue
        findings.counts["slots without an outcome yet"] += not dues
        planned = set(range(min(dues, default=slot.due), slot.due, period))
        findings.hold(
            planned == set(dues),
            f"{slot.device}: without an outcome {sorted(planned - set(dues))}, "
            f"never planned {sorted(set(dues) - planned)}",
        )


def _dues(run: Run, period: int, findings: Findings) -> Iterable[int]:
    """The due times for which a row stands."""
    last = run.due if run.last_due is None else run.last_due
    dues = range(run.due, last + 1, period)
    findings.hold(len(dues) == run.count, f"a row stands for {run.count}, and says {dues}: {run}")
    findings.hold(
        (run.outcome in {Outcome.COALESCED, Outcome.MISSED}) == (run.cause is not None),
        f"a row without its reason: {run}",
    )
    return dues


def check_archive(history: History, remote: StockGit, findings: Findings) -> None:
    """Each success stands there once, as it was acknowledged, and the last is what stands now."""
    remote.fsck()
    commits = _standing(remote)
    written = Counter(run_id for _, run_id in _trailers(remote))
    twice = {run_id for run_id, count in written.items() if count > 1}
    succeeded = history.succeeded
    wanted = []
    for run in succeeded:
        kept = commits.pop(run.run_id, [])
        findings.hold([run.version] == kept, f"expected its version alone, got {kept}: {run}")
        findings.counts["results that stand once"] += [run.version] == kept
        findings.counts["of these written by two"] += run.run_id in twice
        if run.version in kept:
            wanted.append((f"{run.version}:by_device/{run.device}/{JOB}", run))
    findings.counts["archived, then refused"] = len(commits)
    latest: dict[str, Run] = {}
    for run in sorted(succeeded, key=lambda run: run.due):
        latest[run.device] = run
    wanted += [(f"HEAD:by_device/{device}/{JOB}", run) for device, run in latest.items()]
    names = [name for name, _ in wanted]
    for (name, run), found in zip(wanted, _contents(remote, names), strict=True):
        assert run.epoch is not None
        expected = content(run.device, run.due, run.epoch)
        findings.hold(found == expected, f"{name} is {found!r}, and should be of {run}")


def is_agreed(history: History, repositories: Sequence[StockGit]) -> bool:
    """Whether all are one line, with one commit for each success, and none for anything else."""
    versions = {run.run_id: [run.version] for run in history.succeeded}
    tips = {each.run("rev-parse", "main") for each in repositories}
    return len(tips) == 1 and dict(_standing(repositories[0])) == versions


def check_versions(history: History, archive: StockGit, findings: Findings) -> None:
    """Its list of versions says what the commits say: each success once."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    query = "SELECT run_id, hex(commit_id) FROM told WHERE run_id IS NOT NULL AND NOT withdrawn"
    with closing(sqlite3.connect(archive.folder / "roundsman" / "versions.sqlite")) as database:
        for run_id, commit in database.execute(query):
            told[run_id].append(commit.lower())
    wanted = {run.run_id: [run.version] for run in history.succeeded}
    wrong = {run_id for run_id in told | wanted if told.get(run_id) != wanted.get(run_id)}
    findings.hold(not wrong, f"{archive.folder} lists otherwise {sorted(wrong)}")


def _standing(remote: StockGit) -> defaultdict[str, list[str]]:
    """The commits of each run, but for those that others withdrew."""
    withdrawn = remote.run("log", "--format=%(trailers:key=Roundsman-Withdrawn,valueonly)")
    gone = set(withdrawn.decode().split())
    commits: defaultdict[str, list[str]] = defaultdict(list)
    for commit, run_id in _trailers(remote):
        if commit not in gone:
            commits[run_id].append(commit)
    return commits


def _trailers(remote: StockGit) -> Iterator[tuple[str, str]]:
    """Commit and run of each result, joins of two histories aside."""
    rows = remote.run(
        "log", "--no-merges", "--format=%H %(trailers:key=Roundsman-Run,valueonly,separator=%x20)"
    )
    for row in rows.decode().splitlines():
        commit, *runs = row.split()
        for run_id in runs:
            yield commit, run_id


def _contents(remote: StockGit, names: Sequence[str]) -> Iterator[bytes]:
    done = subprocess.run(
        ["git", f"--git-dir={remote.folder}", "cat-file", "--batch"],
        input="".join(f"{name}\n" for name in names).encode(),
        capture_output=True,
        check=True,
    )
    said = done.stdout
    at = 0
    for _ in names:
        end = said.index(b"\n", at)
        head = said[at:end].split()
        if head[-1] == b"missing":
            yield b""
            at = end + 1
            continue
        size = int(head[-1])
        yield said[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


def check_devices(history: History, trace: Sequence[Touch], findings: Findings) -> None:
    """Nobody spoke to a device for an execution that another had taken over."""
    newest: dict[str, Touch] = {}
    said: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for touch in trace:
        said[touch.device, touch.epoch].append(touch.line)
        before = newest.get(touch.device)
        if touch.line == LOGIN and (before is None or touch.epoch > before.epoch):
            newest[touch.device] = touch
        elif before is not None and touch.epoch < before.epoch:
            findings.hold(
                touch.at < before.at + LATE_SECONDS,
                f"{touch} came {touch.at - before.at:.3f} s after {before}",
            )
    for (device, epoch), lines in said.items():
        findings.hold(len(lines) == len(set(lines)), f"{device}, epoch {epoch}: twice: {lines}")
    for run in history.succeeded:
        assert run.epoch is not None
        lines = said[run.device, run.epoch]
        findings.hold(lines == list(LINES), f"the device was told {lines} for {run}")
    findings.counts["sessions"] = len(said)
    findings.counts["sessions cut short"] = sum(LAST not in lines for lines in said.values())


def check_left_over(history: History, states: Iterable[Path], findings: Findings) -> None:
    """No worker was left with a result, and nobody holds what nobody runs."""
    for state in states:
        left = [*(state / "outbox").iterdir(), *(state / "rejected").iterdir()]
        findings.hold(not left, f"left over: {left}")
    held = [slot for slot in history.slots if slot.state is SlotState.LEASED]
    findings.counts["still leased"] = len(held)


def check_logs(logs: Iterable[Path], findings: Findings) -> None:
    """Nothing happened in any process that nobody had foreseen."""
    for log in logs:
        text = log.read_text(errors="replace")
        at = text.find("Traceback")
        around = text[max(0, at - 1500) : at + 4000]
        findings.hold(at < 0, f"{log} has a traceback: {around}")
