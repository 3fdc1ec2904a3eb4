"""Messages between a worker and its keeper, in whatever pieces they come."""

import asyncio
import struct

import msgspec

from roundsman.worker.runners.process_messages import Acknowledge, Incoming, ToKeeper, to_keeper

SAID = [Acknowledge(process_id=text) for text in ("one", "x" * 100_000, "three")]


def framed(message: ToKeeper) -> bytes:
    body = msgspec.msgpack.encode(message)
    return struct.pack("<I", len(body)) + body


async def heard(*pieces: bytes) -> list[ToKeeper]:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    incoming = Incoming(reader, to_keeper)
    messages = []
    while (message := await incoming.next()) is not None:
        messages.append(message)
    return messages


async def test_messages_come_in_any_pieces() -> None:
    whole = b"".join(map(framed, SAID))
    assert await heard(whole) == SAID
    assert await heard(*(whole[at : at + 3] for at in range(0, len(whole), 3))) == SAID


async def test_what_is_cut_short_or_too_long_is_the_end() -> None:
    first, second, _ = map(framed, SAID)
    assert await heard(first, second[:-1]) == SAID[:1]
    assert await heard(first, struct.pack("<I", 1 << 30), b"x" * 100, second) == SAID[:1]
