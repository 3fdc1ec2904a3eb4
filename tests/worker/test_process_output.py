import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roundsman.wire.process import OutputChunk
from roundsman.worker.runners.process_output import STDERR, STDOUT, OutputFile


def everything(output: OutputFile, after: int = 0, room: int = 10_000) -> list[OutputChunk]:
    chunks: list[OutputChunk] = []
    while batch := output.read(after, max_message_bytes=room):
        chunks += batch
        after = batch[-1].number
    return chunks


MakeOutput = Callable[[int], OutputFile]


@pytest.fixture
def make_output(tmp_path: Path) -> Iterator[MakeOutput]:
    made = []

    def make(limit_bytes: int) -> OutputFile:
        made.append(OutputFile(tmp_path / "output", limit_bytes=limit_bytes))
        return made[-1]

    yield make
    for output in made:
        output.close()


def test_chunks_come_back_in_order_and_from_any_number(
    make_output: MakeOutput, rng: random.Random
) -> None:
    output = make_output(1 << 20)
    written = [
        (rng.choice([STDOUT, STDERR]), float(n), rng.randbytes(rng.randrange(1, 300)))
        for n in range(500)
    ]
    for stream, at, data in written:
        output.append(stream, at, data)
    names = {STDOUT: "stdout", STDERR: "stderr"}
    expected = [
        OutputChunk(number=number, stream=names[stream], at=at, data=data)
        for number, (stream, at, data) in enumerate(written, 1)
    ]
    assert everything(output) == expected
    for after in (1, 63, 64, 65, 128, 499, rng.randrange(500)):
        assert everything(output, after) == expected[after:]
    assert everything(output, 500) == everything(output, 10**9) == []


def test_a_read_is_bounded_but_gives_at_least_one_chunk(make_output: MakeOutput) -> None:
    output = make_output(1 << 20)
    for _ in range(10):
        output.append(STDOUT, 0.0, b"x" * 3000)
    assert len(output.read(0, max_message_bytes=10_000)) == 2
    assert len(output.read(0, max_message_bytes=1)) == 1


def test_beyond_the_limit_comes_one_remark_and_nothing_more(
    tmp_path: Path, make_output: MakeOutput
) -> None:
    output = make_output(10_000)
    for _ in range(20):
        output.append(STDOUT, 1.0, b"x" * 1000)
    chunks = everything(output)
    assert chunks[-1].stream == "roundsman"
    assert chunks[-1].data == b"output is cut here: more than 10000 bytes are not kept"
    assert {chunk.stream for chunk in chunks[:-1]} == {"stdout"}
    kept = sum(len(chunk.data) for chunk in chunks)
    assert 9_000 < kept <= (tmp_path / "output").stat().st_size <= 10_000


def test_what_fits_exactly_is_not_cut(make_output: MakeOutput) -> None:
    output = make_output(1000)
    output.append(STDOUT, 1.0, b"x" * (1000 - 256 - 17))
    assert [chunk.stream for chunk in everything(output)] == ["stdout"]
    output.append(STDOUT, 1.0, b"y")
    assert [chunk.stream for chunk in everything(output)] == ["stdout", "roundsman"]


def test_a_restarted_worker_reads_it_up_to_what_was_cut_short(
    tmp_path: Path, make_output: MakeOutput
) -> None:
    path = tmp_path / "output"
    output = make_output(1 << 20)
    for number in range(200):
        output.append(STDOUT, float(number), b"line\n")
    before = everything(output)
    output.close()
    path.write_bytes(path.read_bytes()[:-3])
    assert everything(OutputFile.reopen(path)) == before[:-1]
    assert everything(OutputFile.reopen(path), 130) == before[130:-1]


def test_no_output_is_no_file(tmp_path: Path, make_output: MakeOutput) -> None:
    output = make_output(1000)
    assert everything(output) == everything(OutputFile.reopen(tmp_path / "output")) == []
    assert not (tmp_path / "output").exists()


def test_a_disk_that_takes_no_more_is_said_and_what_was_kept_stays_readable(
    make_output: MakeOutput,
) -> None:
    """A write that fails loses that chunk alone, and neither the file nor the process."""
    output = make_output(1 << 20)
    output.append(STDOUT, 1.0, b"x" * 500)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        output.append(STDOUT, 1.0, b"y" * 600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    output.append(STDOUT, 1.0, b"z")
    kept, remark = everything(output)
    assert kept.data == b"x" * 500
    assert (remark.stream, remark.data) == ("roundsman", b"output is cut here: the disk is full")


def test_a_file_that_cannot_be_made_harms_nobody(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "no such folder" / "output", limit_bytes=1000)
    output.append(STDOUT, 1.0, b"x")
    output.append(STDOUT, 1.0, b"y")
    assert output.cut
    assert everything(output) == []
