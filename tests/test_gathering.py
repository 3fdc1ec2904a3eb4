"""What is written in one turn of the event loop is one write, unless it is much."""

import asyncio

from roundsman.gathering import GatheringTransport


class Counting(asyncio.Transport):
    """A transport that notes its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


async def test_one_turn_is_one_write() -> None:
    beneath = Counting()
    transport = GatheringTransport(beneath)
    changing = bytearray(b"one ")
    transport.write(changing)
    changing[:] = b"gone"
    transport.write(b"two")
    assert beneath.writes == []
    await asyncio.sleep(0)
    transport.write(b"three")
    await asyncio.sleep(0)
    assert beneath.writes == [b"one two", b"three"]


async def test_much_is_written_at_once_so_that_its_writer_learns_when_to_wait() -> None:
    beneath = Counting()
    transport = GatheringTransport(beneath)
    transport.write(b"head")
    transport.write(bytes(100_000))
    assert beneath.writes == [b"head" + bytes(100_000)]
    transport.write(b"more")
    assert len(beneath.writes) == 1
    await asyncio.sleep(0)
    assert beneath.writes[1:] == [b"more"]
