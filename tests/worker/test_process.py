import asyncio
import os
import pwd
import select
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from roundsman.clock import SystemClock
from roundsman.errors import NotFoundError
from roundsman.secret import Secret
from roundsman.wire.control import ProcessChanged, StartProcess
from roundsman.wire.process import OutputChunk, ProcessLimits, ProcessState
from roundsman.worker.policy import OnStop
from roundsman.worker.runners.process import STOPPED_EARLY, ProcessRunner
from roundsman.worker.runners.process_keeper import RESTARTED
from roundsman.worker.runners.process_leftovers import boot_id
from roundsman.worker.runners.process_records import ProcessRecord, ProcessRecords
from roundsman.worker.runners.process_tree import member_of, signal_word
from tests.policies import policy
from tests.worker.helpers import keepers

LIMIT = 1 << 20
COMMANDS = ("sh", "sleep", "true", "cat", "no-such-command", "./argv", "./text")


def ask(process_id: str, command: str, path: str) -> StartProcess:
    return StartProcess(process_id=process_id, command=command, path=path)


class Worker:
    """A runner on a folder with its keeper, and what it said."""

    def __init__(self, tmp_path: Path, on_stop: OnStop) -> None:
        self.scripts = tmp_path / "scripts"
        self.folder = tmp_path / "state" / "processes"
        self.scripts.mkdir(exist_ok=True)
        limits = ProcessLimits(output_bytes=LIMIT)
        self.runner = ProcessRunner(
            policy(
                self.scripts,
                *COMMANDS,
                limits=limits,
                on_stop=on_stop,
                environment=frozenset({"TOKEN"}),
            ),
            folder=self.folder,
            clock=SystemClock(),
        )
        self.changes: asyncio.Queue[ProcessChanged] = asyncio.Queue()
        self.runner.on_change = self.changes.put_nowait

    async def close(self) -> None:
        await self.runner.close()
        await self.runner.detach()

    def script(self, text: str, name: str = "script.sh") -> str:
        (self.scripts / name).write_text(text)
        return name

    async def start(self, command: str, path: str) -> str:
        process_id = str(uuid.uuid4())
        change = await self.runner.start(ask(process_id, command, path))
        assert change.state is ProcessState.RUNNING, change.error
        return process_id

    async def refusal(self, command: str, path: str) -> str | None:
        change = await self.runner.start(ask(str(uuid.uuid4()), command, path))
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


@pytest.fixture
async def make_worker(tmp_path: Path) -> AsyncIterator[MakeWorker]:
    made: list[Worker] = []

    def make(on_stop: OnStop = OnStop.STOP) -> Worker:
        made.append(Worker(tmp_path, on_stop))
        return made[-1]

    yield make
    for worker in made:
        await worker.close()


@pytest.fixture
async def worker(make_worker: MakeWorker) -> Worker:
    worker = make_worker()
    await worker.runner.open()
    return worker


async def test_the_end_is_told_with_the_exit_status(worker: Worker) -> None:
    good = await worker.end_of(await worker.start("true", ""))
    assert (good.state, good.exit_status, good.signal) == (ProcessState.ENDED, 0, None)
    bad = await worker.end_of(await worker.start("sh", worker.script("exit 3")))
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
    script = worker.script(f"ulimit -c 0; kill -{name} $$")
    end = await worker.end_of(await worker.start("sh", script))
    assert (end.exit_status, end.signal) == (None, words)


def test_signals_without_a_name_of_their_own_have_a_number() -> None:
    assert signal_word(signal.SIGRTMIN + 1) == f"signal {signal.SIGRTMIN + 1}"


@pytest.mark.parametrize("path", ["", "a b", "$HOME; echo *", "worker/scripts/count.sh", "ü\n"])
async def test_the_path_is_one_argument_and_no_shell_reads_it(worker: Worker, path: str) -> None:
    worker.script('#!/bin/sh\nprintf "%s|" "$#" "$@"', "argv")
    (worker.scripts / "argv").chmod(0o700)
    assert await worker.output(await worker.start("./argv", path)) == f"1|{path}|"


async def test_it_finds_a_small_world(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own session, the scripts folder, nothing to read, nothing inherited of the worker's."""
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "hunter2")
    inherited = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    script = worker.script("pwd; echo $$; ps -o sid= -p $$; cat; readlink /proc/$$/fd/*; echo; env")
    process_id = await worker.start("sh", script)
    said, environment = (await worker.output(process_id)).split("\n\n")
    folder, pid, session, *opened = said.splitlines()
    os.close(inherited)
    assert Path(folder, script).read_text() == (worker.scripts / script).read_text()
    assert Path(folder) != worker.scripts  # a copy
    assert pid == session.strip()
    # Beside the three there is what the shell itself has opened to read.
    nothing, script_of_shell, *pipes = sorted(opened)
    assert (nothing, script_of_shell) == ("/dev/null", f"{folder}/{script}")
    assert [pipe.partition(":")[0] for pipe in pipes] == ["pipe", "pipe"]
    names = {line.partition("=")[0] for line in environment.splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "LANG", "HOME", "USER", "LOGNAME", "ROUNDSMAN_PROCESS_ID", "TMPDIR",
    }  # fmt: skip
    assert f"ROUNDSMAN_PROCESS_ID={process_id}" in environment


async def test_refusals_name_the_reason(worker: Worker) -> None:
    """Fault 12: any executable, any path."""
    assert await worker.refusal("bash", "x") == "command not allowed: bash"
    assert await worker.refusal("no-such-command", "x") == "no such executable: no-such-command"
    assert await worker.refusal("sh", "../x") == "path leaves the scripts folder: ../x"
    worker.script("\x7fnot a program", "text")
    (worker.scripts / "text").chmod(0o700)
    assert await worker.refusal("./text", "") == "could not start ./text: Exec format error"
    change = await worker.runner.start(ask("../../escape", "true", ""))
    assert change.error == "not a process id: ../../escape"
    assert list(worker.folder.iterdir()) == []


async def test_a_folder_that_is_gone_is_a_reason_too(worker: Worker) -> None:
    worker.scripts.rmdir()
    assert "No such file or directory" in (await worker.refusal("sh", "x") or "")


async def test_both_streams_are_kept_in_order(worker: Worker) -> None:
    """Fault 12: standard error dropped."""
    for fifo in ("first", "second"):
        os.mkfifo(worker.scripts / fifo)
    script = worker.script(
        f"cd {worker.scripts}; echo one; cat first; echo two >&2; cat second; echo three"
    )
    read = worker.runner.read(await worker.start("sh", script), follow=True)
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
    process_id = await worker.start("sh", script)
    first = await worker.chunks(process_id)
    assert b"".join(chunk.data for chunk in first) == b"1\n2\n3\n4\n5\n6\n7\n8\n9\nend\n"
    others = await asyncio.gather(*(worker.chunks(process_id, after) for after in range(12)))
    assert others == [first[after:] for after in range(12)]
    with pytest.raises(NotFoundError, match="job not found"):
        worker.runner.read(str(uuid.uuid4()))


async def test_a_flood_is_cut_and_never_holds_the_process_up(worker: Worker) -> None:
    script = worker.script("head -c 20000000 /dev/zero; echo done >&2; exit 7")
    process_id = await worker.start("sh", script)
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
    process_id = await worker.start("sh", script)
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
    process_id = await worker.start(
        "sh", worker.script(f"sleep 1000 {redirected} & echo $!; exit 4")
    )
    assert (await worker.end_of(process_id)).exit_status == 4
    pid = int(await worker.output(process_id))
    assert member_of(pid)
    assert (await worker.runner.stop(process_id)).gone
    assert member_of(pid) is None
    assert (await worker.runner.stop(process_id)).gone  # and again


async def test_who_is_left_behind_is_told_and_when_they_have_gone(worker: Worker) -> None:
    """Also when its end has been acknowledged long since."""
    process_id = await worker.start("sh", worker.script("sleep 1000 & echo $!"))
    end = await worker.end_of(process_id)
    worker.runner.acknowledge(process_id)
    told = await worker.end_of(process_id)
    child = int(await worker.output(process_id))
    assert told.left_behind is not None
    assert (told.exit_status, told.at, told.left_behind.left) == (0, end.at, (child,))
    assert worker.runner.to_report() == (told,)  # until that is acknowledged too
    os.kill(child, signal.SIGKILL)
    told = await worker.end_of(process_id)
    assert told.left_behind is not None
    assert (told.left_behind.left, told.left_behind.tree_empty) == ((), True)


async def test_what_children_write_after_the_leader_is_kept(worker: Worker) -> None:
    fifo = worker.scripts / "fifo"
    os.mkfifo(fifo)
    process_id = await worker.start(
        "sh", worker.script(f"(read x < {fifo}; echo later; exec >{fifo}) &")
    )
    await worker.end_of(process_id)
    assert await worker.output(process_id) == ""
    await asyncio.to_thread(fifo.write_text, "go\n")
    await asyncio.to_thread(fifo.read_text)  # by then it has written
    await worker.runner.stop(process_id)
    assert await worker.output(process_id) == "later\n"


async def test_stopping_what_ended_is_a_success(worker: Worker) -> None:
    process_id = await worker.start("true", "")
    await worker.end_of(process_id)
    assert (await worker.runner.stop(process_id)).gone


async def test_a_stop_before_the_start_wins(worker: Worker) -> None:
    process_id = str(uuid.uuid4())
    assert (await worker.runner.stop(process_id)).error == "job not found"
    change = await worker.runner.start(ask(process_id, "true", ""))
    assert (change.state, change.error) == (ProcessState.REFUSED, STOPPED_EARLY)


async def test_the_same_start_twice_is_one_process(worker: Worker) -> None:
    process_id = await worker.start("sh", worker.script("echo once"))
    again = await worker.runner.start(ask(process_id, "sh", "script.sh"))
    assert again.state in (ProcessState.RUNNING, ProcessState.ENDED)  # as it stands by now
    assert await worker.output(process_id) == "once\n"
    ended = await worker.end_of(process_id)
    assert await worker.runner.start(ask(process_id, "sh", "script.sh")) == ended


async def test_many_at_once_leave_nothing_behind(worker: Worker) -> None:
    (keeper,) = keepers(worker.folder)

    def descriptors() -> int:
        return len(list(Path(f"/proc/{keeper}/fd").iterdir()))

    first = await worker.start("true", "")
    await worker.end_of(first)
    await worker.runner.stop(first)
    before = descriptors()
    script = worker.script("echo $1; exit 5")
    started = [await worker.start("sh", script) for _ in range(100)]
    ended = [await worker.changes.get() for _ in started]
    assert {change.process_id for change in ended} == set(started)
    assert {change.exit_status for change in ended} == {5}
    for answer in await asyncio.gather(*(worker.runner.stop(one) for one in started)):
        assert answer.gone
    assert descriptors() == before
    assert Path(f"/proc/{keeper}/task/{keeper}/children").read_text() == ""


async def test_closing_ends_everything_and_tells(worker: Worker) -> None:
    process_id = await worker.start("sh", worker.script("sleep 1000 & echo $!; wait"))
    (pid,) = await worker.lines(process_id, 1)
    await worker.runner.close()
    assert worker.changes.get_nowait().signal == "killed"
    assert member_of(int(pid)) is None
    assert await worker.refusal("true", "") == "this worker is stopping"


async def test_ends_are_reported_until_acknowledged_across_restarts(
    make_worker: MakeWorker,
) -> None:
    first = make_worker()
    await first.runner.open()
    process_id = await first.start("sh", first.script("echo hello; exit 3"))
    end = await first.end_of(process_id)
    refused = await first.runner.start(ask(str(uuid.uuid4()), "bash", ""))
    assert first.runner.to_report() == (end, refused)
    first.runner.acknowledge(refused.process_id)
    await first.close()

    second = make_worker()
    await second.runner.open()
    assert second.runner.to_report() == (end,)
    assert await second.output(process_id) == "hello\n"
    second.runner.acknowledge(process_id)
    assert second.runner.to_report() == ()
    await second.close()

    third = make_worker()
    await third.runner.open()
    assert third.runner.to_report() == ()
    assert await third.output(process_id) == "hello\n"


async def test_secrets_are_masked_before_they_are_written(worker: Worker) -> None:
    """Of the start and of the worker, and cut in two by a pause."""
    worker.runner.mask([Secret("known to the worker")])
    script = worker.script(
        f"cd {worker.scripts}; "
        "echo $TOKEN known to the worker; printf 'known to'; cat go; printf ' the worker'"
    )
    os.mkfifo(worker.scripts / "go")
    process_id = str(uuid.uuid4())
    asked = StartProcess(
        process_id=process_id,
        command="sh",
        path=script,
        secret_environment={"TOKEN": Secret("t0ken")},
    )
    assert (await worker.runner.start(asked)).state is ProcessState.RUNNING
    assert await worker.lines(process_id, 1) == ["******** ********"]
    await asyncio.to_thread((worker.scripts / "go").write_text, "")
    assert await worker.output(process_id) == "******** ********\n********"
    on_disk = b"".join(path.read_bytes() for path in (worker.folder / process_id).iterdir())
    assert b"t0ken" not in on_disk
    assert b"known to" not in on_disk


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_it_runs_as_the_user_of_the_policy(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as scripts:  # one that others may look into
        await check_the_user(Path(scripts), tmp_path)


async def check_the_user(scripts: Path, tmp_path: Path) -> None:
    scripts.chmod(0o755)
    (scripts / "who").write_text(
        "id -un; echo $HOME; touch $TMPDIR/x && echo ok > /dev/stderr; "
        "sed -n 's/Max processes *//p' /proc/self/limits | cut -d ' ' -f 1"
    )
    runner = ProcessRunner(
        policy(scripts, "sh", user="daemon", limits=ProcessLimits(tasks=50)),
        folder=tmp_path / "state" / "processes",
        clock=SystemClock(),
    )
    await runner.open()
    process_id = str(uuid.uuid4())
    assert (await runner.start(ask(process_id, "sh", "who"))).error is None
    batches = [batch async for batch in runner.read(process_id, follow=True)]
    user = pwd.getpwnam("daemon")
    text = b"".join(chunk.data for batch in batches for chunk in batch)
    *said, tasks = text.decode().split()
    assert said == ["daemon", user.pw_dir, "ok"]
    if not {bound.name: bound.given for bound in runner.bounds}["tasks"]:
        assert 500 <= int(tasks) < 1000  # the kernel's, of all that are this user's
    assert Path(os.devnull).stat().st_uid != user.pw_uid  # what it read is not its own
    await runner.close()
    await runner.detach()


KILLED_WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
from roundsman.clock import SystemClock
from roundsman.wire.control import StartProcess
from roundsman.worker.runners.process import ProcessRunner
from tests.policies import policy
from tests.worker.helpers import keepers

async def main():
    runner = ProcessRunner(
        policy(Path(sys.argv[1]), "sh"), folder=Path(sys.argv[2]), clock=SystemClock()
    )
    await runner.open()
    await runner.start(StartProcess(process_id=sys.argv[3], command="sh", path="script.sh"))
    text = b""
    async for chunks in runner.read(sys.argv[3], follow=True):
        text += b"".join(chunk.data for chunk in chunks)
        if text.count(b"\\n") == 2:
            break
    os.write(2, text)  # logs may go to standard output
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def kill_a_worker(worker: Worker, process_id: str) -> list[int]:
    """One that has started `script.sh` and read two lines of it, which are numbers."""
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED_WORKER, worker.scripts, worker.folder, process_id),
        stderr=subprocess.PIPE,
    )
    _, output = await killed.communicate()
    assert killed.returncode == -signal.SIGKILL, output
    return [int(line) for line in output.split()]


async def test_a_killed_worker_finds_its_processes_again(make_worker: MakeWorker) -> None:
    """Its output and its exit status too, whether it ends meanwhile or later."""
    again = make_worker()
    again.script(f"cd {again.scripts}; echo 1; echo 2; echo ready > go; cat go; echo 3; exit 7")
    os.mkfifo(again.scripts / "go")
    process_id = str(uuid.uuid4())
    assert await kill_a_worker(again, process_id) == [1, 2]
    await again.runner.open()
    (report,) = again.runner.to_report()
    assert (report.process_id, report.state) == (process_id, ProcessState.RUNNING)
    fifo = again.scripts / "go"
    await asyncio.to_thread(fifo.read_text)
    await asyncio.to_thread(fifo.write_text, "")
    assert (await again.end_of(process_id)).exit_status == 7
    assert await again.output(process_id) == "1\n2\n3\n"


async def test_what_ends_while_the_worker_is_away_is_told_when_it_is_back(
    make_worker: MakeWorker,
) -> None:
    away = make_worker(OnStop.LEAVE)
    await away.runner.open()
    script = away.script(f"cd {away.scripts}; echo ready > go; cat go; echo done; exit 3")
    os.mkfifo(away.scripts / "go")
    process_id = await away.start("sh", script)
    (keeper,) = keepers(away.folder)
    await away.close()
    pidfd = os.pidfd_open(keeper)
    await asyncio.to_thread((away.scripts / "go").read_text)
    await asyncio.to_thread((away.scripts / "go").write_text, "")
    await asyncio.to_thread(select.select, [pidfd], [], [])  # nobody is left: it goes
    os.close(pidfd)
    back = make_worker()
    await back.runner.open()
    (report,) = back.runner.to_report()
    assert (report.process_id, report.exit_status) == (process_id, 3)
    assert await back.output(process_id) == "done\n"


@pytest.mark.parametrize("leader", ["wait", "exit 0", "exec env -i sleep 1000"])
async def test_what_a_killed_keeper_left_is_ended_and_said_to_be_unknown(
    worker: Worker, leader: str
) -> None:
    """Whether the leader is still there, or left its child alone, or threw its environment away."""
    worker.script(f"sleep 1000 & echo $!; echo $$; {leader}")
    process_id = await worker.start("sh", "script.sh")
    child, parent = map(int, await worker.lines(process_id, 2))
    (keeper,) = keepers(worker.folder)
    if leader == "exit 0":
        await worker.end_of(process_id)
    os.kill(keeper, signal.SIGKILL)
    if leader == "exit 0":
        (report,) = worker.runner.to_report()
        assert report.exit_status == 0  # seen to end before
        while (await worker.runner.stop(process_id)).error is not None:
            pass  # as long as there is no other keeper yet
    else:
        report = await worker.end_of(process_id)
        assert (report.state, report.error) == (ProcessState.UNKNOWN, RESTARTED)
    assert member_of(child) is None
    assert member_of(parent) is None
    assert (await worker.output(process_id)).split() == [str(child), str(parent)]
    assert (await worker.runner.stop(process_id)).gone
    assert await worker.output(await worker.start("sh", worker.script("echo on"))) == "on\n"


async def upgrade(
    worker: Worker, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> tuple[Worker, int]:
    """Another release of the worker, beside whose keeper the older one goes on."""
    (older,) = keepers(worker.folder)
    await worker.close()
    monkeypatch.setattr("roundsman.worker.runners.process.__version__", "another")
    upgraded = make_worker(OnStop.LEAVE)
    await upgraded.runner.open()
    assert len(keepers(worker.folder)) == 2
    return upgraded, older


async def kill_and_wait(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(select.select, [pidfd], [], [])
    os.close(pidfd)


@pytest.mark.parametrize("killed", [False, True])
async def test_a_stop_reaches_what_the_keeper_before_an_upgrade_has(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """The leader ended and was acknowledged; whether that keeper lives or was killed just now."""
    before = make_worker(OnStop.LEAVE)
    await before.runner.open()
    process_id = await before.start("sh", before.script("sleep 1000 & echo $!"))
    await before.end_of(process_id)
    child = int(await before.output(process_id))
    before.runner.acknowledge(process_id)
    after, older = await upgrade(before, make_worker, monkeypatch)
    if killed:
        await kill_and_wait(older)
    answer = await after.runner.stop(process_id)
    assert (answer.gone, answer.left, answer.error) == (True, (), None)
    assert member_of(child) is None


async def test_what_is_left_by_a_killed_keeper_from_before_an_upgrade_is_told_by_the_other(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_worker(OnStop.LEAVE)
    await before.runner.open()
    process_id = await before.start("sh", before.script("echo $$; exec sleep 1000"))
    (leader,) = await before.lines(process_id, 1)
    after, older = await upgrade(before, make_worker, monkeypatch)
    await kill_and_wait(older)
    end = await after.end_of(process_id)
    assert (end.state, end.error) == (ProcessState.UNKNOWN, RESTARTED)
    assert member_of(int(leader)) is None
    after.runner.acknowledge(process_id)
    assert (await after.runner.stop(process_id)).error is None  # whoever has it by now


async def test_a_keeper_from_before_an_upgrade_ends_when_all_of_its_own_is_told(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its worker is connected to it; and the newer one has what it knew."""
    before = make_worker(OnStop.LEAVE)
    await before.runner.open()
    process_id = await before.start("sh", before.script("echo on; exec sleep 1000"))
    await before.lines(process_id, 1)
    after, older = await upgrade(before, make_worker, monkeypatch)
    pidfd = os.pidfd_open(older)
    try:
        await after.runner.stop(process_id)
        assert (await after.end_of(process_id)).state is ProcessState.ENDED
        assert select.select([pidfd], [], [], 0)[0] == []  # its end is not acknowledged
        after.runner.acknowledge(process_id)
        await asyncio.to_thread(select.select, [pidfd], [], [])
    finally:
        os.close(pidfd)
    assert await after.output(process_id) == "on\n"
    assert (await after.runner.stop(process_id)).gone
    assert await after.output(await after.start("sh", after.script("echo off"))) == "off\n"


async def test_and_also_after_a_way_back_to_the_release_before(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_worker(OnStop.LEAVE)
    await before.runner.open()
    await before.start("sleep", "1000")
    (socket,) = before.folder.parent.glob("keeper-*.sock")
    after, older = await upgrade(before, make_worker, monkeypatch)
    process_id = await after.start("sleep", "1000")
    (newer,) = set(keepers(after.folder)) - {older}
    await after.close()
    monkeypatch.undo()
    socket.rename(socket.with_name("keeper-z.sock"))  # of two of its release it takes the last
    back = make_worker()
    await back.runner.open()
    await kill_and_wait(newer)
    end = await back.end_of(process_id)
    assert (end.state, end.error) == (ProcessState.UNKNOWN, RESTARTED)


@pytest.mark.parametrize("difference", ["start_ticks", "boot_id"])
async def test_a_restarted_worker_kills_nobody_on_the_strength_of_a_number(
    make_worker: MakeWorker, difference: str
) -> None:
    again = make_worker()
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
        records = ProcessRecords(again.folder)
        records.create(record.change.process_id)
        records.write(record)
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
    records.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
