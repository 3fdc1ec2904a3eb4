"""Files over SFTP."""

import gzip
from dataclasses import replace

import pytest

from roundsman.simulator.device import SimulatedDevice
from roundsman.simulator.kinds import IOS, LINUX, linux_config
from roundsman.wire.job import Compression, File
from roundsman.wire.run import FailureClass
from tests.worker.sessions.conftest import Bench, fetch

PLAIN = File(name="/etc/config")
PACKED = File(name="/etc/config.gz", compression=Compression.GZIP)


def device(packed: bytes) -> SimulatedDevice:
    return SimulatedDevice(replace(LINUX, files={"/etc/config.gz": lambda _: packed}), "h1")


async def test_files_are_fetched_unpacked_and_concatenated_in_order(bench: Bench) -> None:
    async with SimulatedDevice(LINUX, "h1", config_bytes=300_000) as linux:
        config = linux_config(linux.state).encode()
        assert await bench.run(linux, fetch(PACKED, PLAIN)) == config + config


async def test_members_follow_one_another_and_padding_ends_them(bench: Bench) -> None:
    async with device(gzip.compress(b"one\n") + gzip.compress(b"two\n") + bytes(512)) as linux:
        assert await bench.run(linux, fetch(PACKED)) == b"one\ntwo\n"


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(b"text" * 1000, mtime=0)[:-1],
        gzip.compress(b"text" * 1000, mtime=0)[:-5] + b"xxxxx",
        gzip.compress(b"text", mtime=0) + b"rubbish",
        b"no gzip at all",
        b"",
    ],
    ids=["cut off", "wrong checksum", "rubbish behind", "not gzip", "empty"],
)
async def test_gzip_that_is_not_intact(bench: Bench, packed: bytes) -> None:
    async with device(packed) as linux:
        failure, text = await bench.fail(linux, fetch(PACKED))
        assert failure is FailureClass.FILE
        assert "'/etc/config.gz' is not intact gzip" in text


async def test_a_small_file_cannot_unpack_to_more_than_allowed(bench: Bench) -> None:
    async with device(gzip.compress(bytes(50_000_000))) as linux:
        failure, _ = await bench.fail(linux, fetch(PACKED), max_bytes=1_000_000)
        assert failure is FailureClass.TOO_LARGE


async def test_a_file_that_is_not_there(bench: Bench) -> None:
    async with SimulatedDevice(LINUX, "h1") as linux:
        failure, text = await bench.fail(linux, fetch(File(name="/etc/nothing")))
        assert failure is FailureClass.FILE
        assert "there is no file '/etc/nothing' on the device" in text


async def test_a_device_without_sftp(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as ios:
        failure, text = await bench.fail(ios, fetch(PLAIN))
        assert failure is FailureClass.FILE
        assert "the device offers no SFTP" in text
