"""What a controller and the process that writes its archive say to each other.

Each message is a frame: its length, four bytes, and the message as MessagePack. Questions carry a
number and the time; whatever is said in one go is answered in its order.
"""

from collections.abc import Sequence
from typing import Final, Self, TypeAlias

import msgspec

from roundsman.archive.interface import ArchiveUnavailableError, Entry, Stored, Withdrawal
from roundsman.archive.preparation import Current, Prepared

LENGTH_BYTES: Final = 4


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Open(_Message, frozen=True):
    """Open the repository; the first question of all. Answered by `Opened`."""

    folder: str
    paths: tuple[str, ...]
    overviews: bool
    one_commit: bool
    drafts: bool


class Greet(_Message, frozen=True):
    """Say that the repository is open."""


class Check(_Message, frozen=True):
    """Say whether the repository can be written now."""


class ListPacks(_Message, frozen=True):
    """List the packs between two batches. Answered by `Packs`."""


class Look(_Message, frozen=True):
    """Say what a path holds. Answered by `Found`."""

    device: str
    job: str


class TakeIn(_Message, frozen=True):
    """Put the branch on top of a commit that others pushed. Answered by `TakenIn`."""

    theirs: bytes


class Withdraw(_Message, frozen=True):
    """Say by a commit that versions are not what was kept of their runs."""

    withdrawals: Sequence[Withdrawal]


class Rebuild(_Message, frozen=True):
    """Let go of the repository, since it is damaged."""

    reason: str


class Close(_Message, frozen=True):
    """Let go of the repository, and end."""


class Store(_Message, frozen=True):
    """Write a result with others that wait. Answered by `Written`."""

    device: str
    job: str
    due: int
    started_at: float
    ended_at: float
    worker_id: str | None
    run_id: str
    tags: tuple[str, ...]
    content: bytes | None
    """None: it was prepared."""
    blob: bytes
    pack: str
    seen_in: int | None
    size: int | None
    lines: int | None

    @classmethod
    def of(cls, item: Entry | Prepared) -> Self:
        """The message for a result whose content is in memory, or was prepared in a pack."""
        prepared = item if isinstance(item, Prepared) else None
        entry = item if isinstance(item, Entry) else item.entry
        return cls(
            entry.device,
            entry.job,
            entry.due,
            entry.started_at,
            entry.ended_at,
            entry.worker_id,
            entry.run_id,
            entry.tags,
            entry.read() if prepared is None else None,
            b"" if prepared is None else prepared.blob,
            "" if prepared is None else prepared.pack,
            None if prepared is None else prepared.seen_in,
            None if prepared is None else prepared.size,
            None if prepared is None else prepared.lines,
        )

    def item(self) -> Entry | Prepared:
        """What is to be written."""
        entry = Entry(
            device=self.device,
            job=self.job,
            content=self.content or b"",
            due=self.due,
            started_at=self.started_at,
            ended_at=self.ended_at,
            worker_id=self.worker_id,
            run_id=self.run_id,
            tags=self.tags,
        )
        if self.content is not None:
            return entry
        return Prepared(
            entry,
            self.blob,
            pack=self.pack,
            seen_in=self.seen_in,
            size=self.size,
            lines=self.lines,
        )


Request: TypeAlias = (
    Open | Greet | Check | ListPacks | Look | TakeIn | Withdraw | Rebuild | Close | Store
)


class Question(msgspec.Struct, frozen=True, array_like=True):
    """A request."""

    number: int
    now: float
    request: Request


class Done(_Message, frozen=True):
    """It is done."""


class Opened(_Message, frozen=True):
    """The repository is open."""

    branch: str
    """The full name of the branch that is written to."""


class TakenIn(_Message, frozen=True):
    """What others pushed was taken in."""

    gave_up: bool


class Packs(_Message, frozen=True):
    """The packs, each complete."""

    names: tuple[str, ...]


class Found(_Message, frozen=True):
    """What a path holds."""

    blob: bytes | None
    generation: int

    @property
    def current(self) -> Current:
        """The same in the archive's words."""
        return Current(self.blob, self.generation)


class Written(_Message, frozen=True):
    """A result is kept."""

    version: str
    changed: bool

    @property
    def stored(self) -> Stored:
        """The same in the archive's words."""
        return Stored(version=self.version, changed=self.changed)


class Failed(_Message, frozen=True):
    """It could not be done."""

    text: str
    remedy: str | None
    retry_after_seconds: int

    @classmethod
    def by(cls, error: ArchiveUnavailableError) -> Self:
        """The message for an error."""
        return cls(error.text, error.remedy, error.retry_after_seconds)

    @property
    def error(self) -> ArchiveUnavailableError:
        """The error."""
        return ArchiveUnavailableError(
            self.text, remedy=self.remedy, retry_after_seconds=self.retry_after_seconds
        )


class Damaged(_Message, frozen=True):
    """The repository is damaged: the process lets go of it, and ends, so that it can be mended.

    What was asked and not answered is to be asked again.
    """

    reason: str


Answer: TypeAlias = Done | Opened | TakenIn | Packs | Found | Written | Failed | Damaged


class Event(msgspec.Struct, frozen=True, array_like=True):
    """A line for the log of the process that asks."""

    logger: str
    level: str
    name: str
    values: dict[str, object]


class Said(msgspec.Struct, frozen=True, array_like=True):
    """Answers to questions of these numbers, and what is to be logged."""

    answers: Sequence[tuple[int, Answer]]
    events: Sequence[Event] = ()


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=str)
question: Final[msgspec.msgpack.Decoder[Question]] = msgspec.msgpack.Decoder(Question)
said: Final[msgspec.msgpack.Decoder[Said]] = msgspec.msgpack.Decoder(Said)


def frame(message: Question | Said) -> bytes:
    """A message as it is sent."""
    data = bytearray(LENGTH_BYTES)
    _encoder.encode_into(message, data, LENGTH_BYTES)
    data[:LENGTH_BYTES] = (len(data) - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big")
    return bytes(data)
