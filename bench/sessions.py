"""Device sessions per second, and what one costs, beside other programs.

In one run, against the same simulated routers: every program in a process of its own logs in by
password, turns paging off, reads a configuration of 20 KB and logs out, with many sessions at
once. The programs take turns, round by round, so that all see the same machine. Ratios are taken
within a round; shown is the median of the rounds.
"""

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench.peers.harness import Round
from bench.report import Row
from bench.routers import Running, running

ROUTERS: Final = 100
ROUND_SECONDS: Final = 20
"""A program that has not done a round by then hangs: it is left out from there on."""
PEERS_PYTHON: Final = Path(".peers/bin/python")
"""Made by scripts/bench-peers."""


class Peer(NamedTuple):
    """One program."""

    name: str
    module: str
    argument: str = ""
    own: bool = False
    """Whether it runs in the project's environment."""


OURS: Final = Peer("ours, proven and filtered", "ours", own=True)
OURS_TELNET: Final = Peer("ours over Telnet", "ours", "telnet", own=True)
SSH: Final = (
    OURS,
    Peer("netmiko, 30 threads", "netmiko_threads"),
    Peer("scrapli (libssh2), 30 at once", "scrapli_async"),
    Peer("paramiko, 30 threads", "paramiko_threads"),
    Peer("OpenSSH's client, 30 processes", "openssh", own=True),
    Peer("asyncssh alone", "asyncssh_alone", own=True),
    Peer("ssh2-python (C), 30 threads", "ssh2_threads"),
)
TELNET: Final = (OURS_TELNET, Peer("telnetlib3 alone", "telnetlib3_alone", own=True))


class Measured(NamedTuple):
    """One peer's round, and what the routers used meanwhile."""

    round: Round
    routers_cpu: float

    @property
    def rate(self) -> float:
        """Sessions a second."""
        return self.round.done / self.round.seconds

    @property
    def cpu(self) -> float:
        """CPU milliseconds of the client, a session."""
        return 1000 * self.round.cpu_seconds / max(1, self.round.done)


def run(quick: bool) -> list[Row]:
    """200 sessions each, five times over (quick: once)."""
    with running(ROUTERS) as routers, ExitStack() as stack:
        started = {peer: stack.enter_context(_peer(peer, routers)) for peer in (*SSH, *TELNET)}
        missing = [peer for peer, process in started.items() if process is None]
        there = {peer: process for peer, process in started.items() if process is not None}
        rounds: dict[Peer, list[Measured]] = {peer: [] for peer in there}
        hanging: list[Peer] = []
        for _ in range(2 if quick else 6):
            for peer, process in there.items():
                if peer in hanging:
                    continue
                if (measured := _round(process, routers)) is None:
                    hanging.append(peer)
                else:
                    rounds[peer].append(measured)
    for measured_rounds in rounds.values():
        del measured_rounds[:1]  # modules and caches warmed up
    return [
        *_rows(SSH, rounds),
        *_rows(TELNET, rounds),
        *(Row(name=f"{peer.name}: not installed", value=1, unit="") for peer in missing),
        *(Row(name=f"{peer.name}: hung", value=1, unit="") for peer in hanging),
    ]


def _rows(peers: tuple[Peer, ...], rounds: dict[Peer, list[Measured]]) -> Iterator[Row]:
    first = rounds[peers[0]]
    for peer in peers:
        if not (own := rounds.get(peer, [])):
            continue
        for unit, figures, theirs in (
            ("sessions/s", [one.rate for one in own], [one.rate for one in first]),
            ("ms CPU/session", [one.cpu for one in own], [one.cpu for one in first]),
        ):
            ratios = [one / other for one, other in zip(figures, theirs, strict=False)]
            yield Row(
                name=peer.name,
                value=median(figures),
                unit=unit,
                compared_to=None if peer is peers[0] else peers[0].name,
                ratio=None if peer is peers[0] else median(ratios),
            )
        yield Row(
            name=peer.name,
            value=median(one.routers_cpu / one.round.seconds for one in own),
            unit="of a core by the routers",
        )
        if failures := [text for one in own for text in one.round.failures]:
            yield Row(
                name=f"{peer.name}: {failures[0][:60]}",
                value=len(failures) / len(own),
                unit="failures/round",
            )


@contextmanager
def _peer(peer: Peer, routers: Running) -> Iterator["subprocess.Popen[str] | None"]:
    """A program, ready to have sessions; none where it is not installed."""
    python = sys.executable if peer.own else str(PEERS_PYTHON)
    if not Path(python).exists():
        yield None
        return
    with subprocess.Popen(
        [python, "-m", f"bench.peers.{peer.module}", peer.argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([asdict(router) for router in routers.routers]) + "\n")
        process.stdin.flush()
        yield process if process.stdout.readline() else None
        process.kill()


def _round(process: "subprocess.Popen[str]", routers: Running) -> Measured | None:
    """A session with each router, twice; none when that does not come to its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    before = routers.cpu_seconds()
    process.stdin.write("\n")
    process.stdin.flush()
    if not select.select([process.stdout], [], [], ROUND_SECONDS)[0]:
        process.kill()
        return None
    answer = Round(**json.loads(process.stdout.readline()))
    return Measured(answer, routers.cpu_seconds() - before)
