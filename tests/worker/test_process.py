import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from roundsman.clock import SystemClock
from roundsman.errors import NotFoundError
from roundsman.testing.clock import ManualClock
from roundsman.wire.control import ProcessChanged, StartProcess
from roundsman.wire.process import OutputChunk, ProcessState
from roundsman.worker.runners import process_group, process_running
from roundsman.worker.runners.process import RESTARTED, STOPPED_EARLY, ProcessRunner
from roundsman.worker.runners.process_group import Member, member_of, members, signal_word
from roundsman.worker.runners.process_leftovers import boot_id
from roundsman.worker.runners.process_records import ProcessRecord, ProcessRecords
from tests.policies import policy

LIMIT = 1 << 20
COMMANDS = ("sh", "sleep", "true", "cat", "no-such-command", "./argv", "./text")


def ask(process_id: str, command: str, path: str) -> StartProcess:
    return StartProcess(process_id=process_id, command=command, path=path)


class Worker:
    """A runner on a folder, and what it said."""

    def __init__(self, tmp_path: Path, clock: ManualClock | SystemClock, keep_ended: int) -> None:
        self.scripts = tmp_path / "scripts"
        self.folder = tmp_path / "state" / "processes"
        self.scripts.mkdir(exist_ok=True)
        self.runner = ProcessRunner(
            policy(self.scripts, *COMMANDS, output_limit_bytes=LIMIT),
            folder=self.folder,
            clock=clock,
            keep_ended=keep_ended,
        )
        self.changes: asyncio.Queue[ProcessChanged] = asyncio.Queue()
        self.runner.on_change = self.changes.put_nowait

    def script(self, text: str, name: str = "script.sh") -> str:
        (self.scripts / name).write_text(text)
        return name

    def start(self, command: str, path: str) -> str:
        process_id = str(uuid.uuid4())
        change = self.runner.start(ask(process_id, command, path))
        assert change.state is ProcessState.RUNNING, change.error
        return process_id

    def refusal(self, command: str, path: str) -> str | None:
        change = self.runner.start(ask(str(uuid.uuid4()), command, path))
        assert change.state is ProcessState.REFUSED
        return change.error

    async def end_of(self, process_id: str) -> ProcessChanged:
        change = await self.changes.get()
        assert change.process_id == process_id
        return change

    async def chunks(self, process_id: str, after: int = 0) -> list[OutputChunk]:
        read = self.runner.read(process_id, after=after, follow=True)
        return [chunk async for batch in read for chunk in batch]

    async def output(self, process_id: str) -> str:
        return b"".join(chunk.data for chunk in await self.chunks(process_id)).decode()

    async def lines(self, process_id: str, count: int) -> list[str]:
        """The first lines, as soon as they are there."""
        text = b""
        async for batch in self.runner.read(process_id, follow=True):
            text += b"".join(chunk.data for chunk in batch)
            if text.count(b"\n") >= count:
                break
        return text.decode().splitlines()


MakeWorker = Callable[..., Worker]


def children() -> set[str]:
    """Children of this process, zombies among them."""
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return set(own.read_text().split())


@pytest.fixture
async def make_worker(tmp_path: Path) -> AsyncIterator[MakeWorker]:
    made: list[Worker] = []

    def make(clock: ManualClock | SystemClock | None = None, keep_ended: int = 1000) -> Worker:
        made.append(Worker(tmp_path, clock or SystemClock(), keep_ended))
        return made[-1]

    yield make
    for worker in made:
        await worker.runner.close()


@pytest.fixture
async def worker(make_worker: MakeWorker) -> Worker:
    worker = make_worker()
    await worker.runner.open()
    return worker


async def test_the_end_is_told_with_the_exit_status(worker: Worker) -> None:
    good = await worker.end_of(worker.start("true", ""))
    assert (good.state, good.exit_status, good.signal) == (ProcessState.ENDED, 0, None)
    bad = await worker.end_of(worker.start("sh", worker.script("exit 3")))
    assert (bad.state, bad.exit_status, bad.signal) == (ProcessState.ENDED, 3, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HUP", "hangup"),
        ("INT", "interrupt"),
        ("ABRT", "aborted"),
        ("KILL", "killed"),
        ("SEGV", "segmentation fault"),
        ("PIPE", "broken pipe"),
        ("TERM", "terminated"),
        ("USR1", "user defined signal 1"),
        ("USR2", "user defined signal 2"),
    ],
)
async def test_the_end_is_told_with_the_signal_s_name(
    worker: Worker, name: str, words: str
) -> None:
    end = await worker.end_of(worker.start("sh", worker.script(f"ulimit -c 0; kill -{name} $$")))
    assert (end.exit_status, end.signal) == (None, words)


def test_signals_without_a_name_of_their_own_have_a_number() -> None:
    assert signal_word(signal.SIGRTMIN + 1) == f"signal {signal.SIGRTMIN + 1}"


@pytest.mark.parametrize("path", ["", "a b", "$HOME; echo *", "worker/scripts/count.sh", "ü\n"])
async def test_the_path_is_one_argument_and_no_shell_reads_it(worker: Worker, path: str) -> None:
    worker.script('#!/bin/sh\nprintf "%s|" "$#" "$@"', "argv")
    (worker.scripts / "argv").chmod(0o700)
    assert await worker.output(worker.start("./argv", path)) == f"1|{path}|"


async def test_it_finds_a_small_world(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own session, the scripts folder, nothing to read, nothing inherited of the worker's."""
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "hunter2")
    inherited = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    script = worker.script("pwd; echo $$; ps -o sid= -p $$; cat; ls /proc/self/fd | wc -l; env")
    process_id = worker.start("sh", script)
    folder, pid, session, descriptors, *environment = (await worker.output(process_id)).splitlines()
    os.close(inherited)
    assert folder == str(worker.scripts)
    assert pid == session.strip()
    assert int(descriptors) == 5  # the three, the script, and the folder that ls itself reads
    names = {line.partition("=")[0] for line in environment}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "LANG", "HOME", "USER", "LOGNAME", "ROUNDSMAN_PROCESS_ID",
    }  # fmt: skip
    assert f"ROUNDSMAN_PROCESS_ID={process_id}" in environment


async def test_refusals_name_the_reason(worker: Worker) -> None:
    """Fault 12: any executable, any path."""
    assert worker.refusal("bash", "x") == "command not allowed: bash"
    assert worker.refusal("no-such-command", "x") == "no such executable: no-such-command"
    assert worker.refusal("sh", "../x") == "path leaves the scripts folder: ../x"
    worker.script("\x7fnot a program", "text")
    (worker.scripts / "text").chmod(0o700)
    assert worker.refusal("./text", "") == "could not start ./text: Exec format error"
    change = worker.runner.start(ask("../../escape", "true", ""))
    assert change.error == "not a process id: ../../escape"
    assert list(worker.folder.iterdir()) == []


async def test_a_folder_that_is_gone_is_a_reason_too(worker: Worker) -> None:
    worker.scripts.rmdir()
    assert "No such file or directory" in (worker.refusal("sh", "x") or "")


async def test_both_streams_are_kept_in_order(worker: Worker) -> None:
    """Fault 12: standard error dropped."""
    for fifo in ("first", "second"):
        os.mkfifo(worker.scripts / fifo)
    script = worker.script("echo one; cat first; echo two >&2; cat second; echo three")
    read = worker.runner.read(worker.start("sh", script), follow=True)
    seen: list[OutputChunk] = []
    for step in ("first", "second", None):
        seen += await anext(read)
        if step is not None:
            await asyncio.to_thread((worker.scripts / step).write_bytes, b"")
    assert [(chunk.number, chunk.stream, chunk.data) for chunk in seen] == [
        (1, "stdout", b"one\n"),
        (2, "stderr", b"two\n"),
        (3, "stdout", b"three\n"),
    ]
    with pytest.raises(StopAsyncIteration):
        await anext(read)


async def test_many_readers_each_from_where_they_like(worker: Worker) -> None:
    script = worker.script("for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.01; done; echo end >&2")
    process_id = worker.start("sh", script)
    first = await worker.chunks(process_id)
    assert b"".join(chunk.data for chunk in first) == b"1\n2\n3\n4\n5\n6\n7\n8\n9\nend\n"
    others = await asyncio.gather(*(worker.chunks(process_id, after) for after in range(12)))
    assert others == [first[after:] for after in range(12)]
    with pytest.raises(NotFoundError, match="job not found"):
        worker.runner.read(str(uuid.uuid4()))


async def test_a_flood_is_cut_and_never_holds_the_process_up(worker: Worker) -> None:
    script = worker.script("head -c 20000000 /dev/zero; echo done >&2; exit 7")
    process_id = worker.start("sh", script)
    assert (await worker.end_of(process_id)).exit_status == 7
    chunks = await worker.chunks(process_id)
    assert chunks[-1].stream == "roundsman"
    assert LIMIT - 66_000 < sum(len(chunk.data) for chunk in chunks) < LIMIT
    assert (worker.folder / process_id / "output").stat().st_size <= LIMIT


async def test_a_stop_ends_the_whole_group(worker: Worker) -> None:
    """Fault 12: children survive a stop."""
    script = worker.script(
        "trap '' TERM HUP INT\n(trap '' TERM; sleep 1000 & echo $!; wait) & echo $!\n"
        "sh -c 'sleep 1000 >/dev/null 2>&1' & echo $!\nwait"
    )
    process_id = worker.start("sh", script)
    pids = [int(line) for line in await worker.lines(process_id, 3)]
    assert all(member_of(pid) for pid in pids)
    answer = await worker.runner.stop(process_id)
    assert (answer.gone, answer.left, answer.error) == (True, (), None)
    assert [pid for pid in pids if member_of(pid)] == []
    end = worker.changes.get_nowait()  # told before the stop was answered
    assert (end.state, end.signal) == (ProcessState.ENDED, "killed")


@pytest.mark.parametrize("redirected", ["", ">/dev/null 2>&1"])
async def test_children_that_outlive_the_leader_are_a_stop_s_concern(
    worker: Worker, redirected: str
) -> None:
    """Fault 12. The process has ended when its leader has, whoever holds its pipes."""
    process_id = worker.start("sh", worker.script(f"sleep 1000 {redirected} & echo $!; exit 4"))
    assert (await worker.end_of(process_id)).exit_status == 4
    pid = int(await worker.output(process_id))
    assert member_of(pid)
    assert (await worker.runner.stop(process_id)).gone
    assert member_of(pid) is None
    assert (await worker.runner.stop(process_id)).gone  # and again


async def test_what_children_write_after_the_leader_is_kept(worker: Worker) -> None:
    fifo = worker.scripts / "fifo"
    os.mkfifo(fifo)
    process_id = worker.start("sh", worker.script("(read x < fifo; echo later; exec >fifo) &"))
    await worker.end_of(process_id)
    assert await worker.output(process_id) == ""
    await asyncio.to_thread(fifo.write_text, "go\n")
    await asyncio.to_thread(fifo.read_text)  # by then it has written
    await worker.runner.stop(process_id)
    assert await worker.output(process_id) == "later\n"


async def test_stopping_what_ended_is_a_success(worker: Worker) -> None:
    process_id = worker.start("true", "")
    await worker.end_of(process_id)
    assert (await worker.runner.stop(process_id)).gone


async def test_no_signal_reaches_a_group_that_is_gone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another's by then."""
    process_id = worker.start("true", "")
    await worker.end_of(process_id)
    assert (await worker.runner.stop(process_id)).gone

    def forbidden(*_: object) -> None:
        raise AssertionError("a signal to a number that is not held")

    monkeypatch.setattr(os, "killpg", forbidden)
    assert (await worker.runner.stop(process_id)).gone


async def test_a_leader_is_not_reaped_while_somebody_of_its_group_is_left(worker: Worker) -> None:
    """Its zombie holds the number, so that a later stop cannot reach strangers."""
    process_id = worker.start("sh", worker.script("sleep 1000 >/dev/null 2>&1 & echo $$"))
    await worker.end_of(process_id)
    pid = int(await worker.output(process_id))
    assert Path(f"/proc/{pid}").exists()
    assert (await worker.runner.stop(process_id)).gone
    assert not Path(f"/proc/{pid}").exists()


async def test_a_leader_stays_unreaped_however_often_its_group_is_looked_at(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "_GATHERING_SECONDS", 0.001)
    looked = asyncio.Semaphore(0)

    def watched_members() -> list[Member]:
        looked.release()
        return members()

    monkeypatch.setattr(process_group, "members", watched_members)
    process_id = worker.start("sh", worker.script("sleep 1000 >/dev/null 2>&1 & echo $$"))
    await worker.end_of(process_id)
    for _ in range(5):
        await looked.acquire()
    assert Path(f"/proc/{int(await worker.output(process_id))}").exists()


async def test_a_stop_is_answered_only_once_nobody_is_seen(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was killed may take a while to vanish."""
    still = 5

    def slow_members() -> list[Member]:
        nonlocal still
        still -= 1
        return [*members(), Member(1, pid, 1)] if still > 0 else members()

    process_id = worker.start("sh", worker.script("echo $$; exec sleep 1000"))
    (line,) = await worker.lines(process_id, 1)
    pid = int(line)
    monkeypatch.setattr(process_group, "members", slow_members)
    assert (await worker.runner.stop(process_id)).gone
    assert still == 0


async def test_who_does_not_vanish_is_named(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one who hangs in the kernel; and the next stop tries again."""
    monkeypatch.setattr(process_running, "_STOP_SECONDS", 0.05)
    process_id = worker.start("sh", worker.script("echo $$; exec sleep 1000"))
    (line,) = await worker.lines(process_id, 1)
    with monkeypatch.context() as stuck:
        stuck.setattr(process_group, "members", lambda: [Member(123456, int(line), 1)])
        answer = await worker.runner.stop(process_id)
        assert (answer.gone, answer.left) == (False, (123456,))
    monkeypatch.setattr(process_running, "_STOP_SECONDS", 5)
    assert (await worker.runner.stop(process_id)).gone


async def test_a_stop_before_the_start_wins(worker: Worker) -> None:
    process_id = str(uuid.uuid4())
    assert (await worker.runner.stop(process_id)).error == "job not found"
    change = worker.runner.start(ask(process_id, "true", ""))
    assert (change.state, change.error) == (ProcessState.REFUSED, STOPPED_EARLY)


async def test_the_same_start_twice_is_one_process(worker: Worker) -> None:
    process_id = worker.start("sh", worker.script("echo once"))
    assert worker.runner.start(ask(process_id, "sh", "script.sh")).state is ProcessState.RUNNING
    assert await worker.output(process_id) == "once\n"
    ended = await worker.end_of(process_id)
    assert worker.runner.start(ask(process_id, "sh", "script.sh")) == ended


async def test_many_at_once_leave_nothing_behind(worker: Worker) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    first = worker.start("true", "")
    await worker.end_of(first)
    await worker.runner.stop(first)
    before = descriptors()
    script = worker.script("echo $1; exit 5")
    started = [worker.start("sh", script) for _ in range(100)]
    ended = [await worker.changes.get() for _ in started]
    assert {change.process_id for change in ended} == set(started)
    assert {change.exit_status for change in ended} == {5}
    for answer in await asyncio.gather(*(worker.runner.stop(one) for one in started)):
        assert answer.gone
    assert descriptors() == before
    assert children() == set()


async def test_closing_ends_everything_and_tells(worker: Worker) -> None:
    process_id = worker.start("sh", worker.script("sleep 1000 & echo $!; wait"))
    (pid,) = await worker.lines(process_id, 1)
    await worker.runner.close()
    assert worker.changes.get_nowait().signal == "killed"
    assert member_of(int(pid)) is None
    assert worker.refusal("true", "") == "this worker is stopping"


async def test_ends_are_reported_until_acknowledged_across_restarts(
    make_worker: MakeWorker,
) -> None:
    first = make_worker()
    await first.runner.open()
    process_id = first.start("sh", first.script("echo hello; exit 3"))
    end = await first.end_of(process_id)
    refused = first.runner.start(ask(str(uuid.uuid4()), "bash", ""))
    assert first.runner.to_report() == (end, refused)
    first.runner.acknowledge(refused.process_id)
    await first.runner.close()

    second = make_worker()
    await second.runner.open()
    assert second.runner.to_report() == (end,)
    assert await second.output(process_id) == "hello\n"
    second.runner.acknowledge(process_id)
    assert second.runner.to_report() == ()
    await second.runner.close()

    third = make_worker()
    await third.runner.open()
    assert third.runner.to_report() == ()
    assert await third.output(process_id) == "hello\n"


async def test_ended_processes_are_kept_by_number_and_age(make_worker: MakeWorker) -> None:
    """Fault 12: jobs and output files are kept for ever."""
    clock = ManualClock()
    worker = make_worker(clock, keep_ended=2)
    await worker.runner.open()
    started = []
    for _ in range(4):
        started.append(worker.start("true", ""))
        await worker.end_of(started[-1])
        assert (await worker.runner.stop(started[-1])).gone
    assert {path.name for path in worker.folder.iterdir()} == set(started)  # none acknowledged
    for process_id in started:
        worker.runner.acknowledge(process_id)
    assert {path.name for path in worker.folder.iterdir()} == set(started[2:])
    clock.advance(8 * 86400)
    last = worker.start("true", "")
    await worker.end_of(last)
    worker.runner.acknowledge(last)
    assert {path.name for path in worker.folder.iterdir()} == {last}
    assert (await worker.runner.stop(started[0])).error == "job not found"


async def test_a_start_that_comes_after_its_time_to_live_is_refused(
    make_worker: Callable[..., Worker],
) -> None:
    clock = ManualClock()
    runner = make_worker(clock).runner
    asked = ask(str(uuid.uuid4()), "true", "")
    late = msgspec.structs.replace(asked, not_after=clock.now() - 1.5)
    assert runner.start(late).error == "it came 1.5 seconds after its time to live"
    in_time = msgspec.structs.replace(asked, process_id=str(uuid.uuid4()), not_after=clock.now())
    assert runner.start(in_time).state is ProcessState.RUNNING


KILLED_WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
from roundsman.clock import SystemClock
from roundsman.wire.control import StartProcess
from roundsman.worker.runners.process import ProcessRunner
from tests.policies import policy

async def main():
    runner = ProcessRunner(
        policy(Path(sys.argv[1]), "sh"),
        folder=Path(sys.argv[2]), clock=SystemClock(),
    )
    await runner.open()
    runner.start(StartProcess(process_id=sys.argv[3], command="sh", path="script.sh"))
    text = b""
    async for chunks in runner.read(sys.argv[3], follow=True):
        text += chunks[0].data
        if text.count(b"\\n") == 2:
            break
    os.write(2, text)  # logs may go to standard output
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("leader", ["wait", "exit 0", "exec env -i sleep 1000"])
async def test_a_killed_worker_s_processes_are_ended_and_said_to_be_unknown(
    worker: Worker, make_worker: MakeWorker, leader: str
) -> None:
    """Whether the leader is still there, or left its child alone, or threw its environment away."""
    worker.script(f"sleep 1000 & echo $!; echo $$; {leader}")
    process_id = str(uuid.uuid4())
    arguments = (str(worker.scripts), str(worker.folder), process_id)
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED_WORKER, *arguments, stderr=subprocess.PIPE
    )
    _, output = await killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    child, parent = map(int, output.split())
    assert member_of(child)

    again = make_worker()
    await again.runner.open()
    (report,) = again.runner.to_report()
    if leader == "exit 0" and report.state is ProcessState.ENDED:
        assert report.exit_status == 0  # seen to end before the worker did
    else:
        assert (report.state, report.error) == (ProcessState.UNKNOWN, RESTARTED)
    assert member_of(child) is None
    assert member_of(parent) is None
    assert (await again.output(process_id)).split() == [str(child), str(parent)]
    assert (await again.runner.stop(process_id)).gone


@pytest.mark.parametrize("difference", ["start_ticks", "boot_id"])
async def test_a_restarted_worker_kills_nobody_on_the_strength_of_a_number(
    worker: Worker, make_worker: MakeWorker, difference: str
) -> None:
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        member = member_of(stranger.pid)
        assert member is not None
        record = ProcessRecord(
            change=ProcessChanged(process_id=str(uuid.uuid4()), state=ProcessState.RUNNING, at=1.0),
            pid=stranger.pid,
            start_ticks=member.start_ticks - (difference == "start_ticks"),
            boot_id="another" if difference == "boot_id" else boot_id(),
        )
        records = ProcessRecords(worker.folder)
        records.create(record.change.process_id)
        records.write(record)
        again = make_worker()
        await again.runner.open()
        (report,) = again.runner.to_report()
        assert (report.state, report.error) == (ProcessState.UNKNOWN, RESTARTED)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_records_cut_short_by_a_crash_are_read_up_to_there(tmp_path: Path) -> None:
    records = ProcessRecords(tmp_path)
    ended = ProcessRecord(
        change=ProcessChanged(process_id="one", state=ProcessState.ENDED, at=1.0, exit_status=0)
    )
    records.create("one")
    records.write(ended)
    with (tmp_path / "one" / "record").open("ab") as file:
        file.write(b'{"change": {"type": "process_ch')
    records.create("two")
    (tmp_path / "two" / "record").write_bytes(b'{"chan')
    assert list(records.load()) == [ended]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
