"""The laws of the archive as tests, for every implementation, ours and others'.

A test module makes a subclass whose name begins with `Test` and gives it a fixture `archive`, an
open and empty archive:

    class TestOurArchive(ArchiveConformance):
        @pytest.fixture
        async def archive(self, tmp_path): ...

The tests are coroutines: pytest-asyncio, or the like, has to run them. What a crash leaves behind
(laws 1 and 4) is for each implementation to show in its own way.
"""

import asyncio
import io
import random
import re
import tarfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import msgspec
import pytest

from roundsman.archive.interface import (
    Archive,
    ArchiveNameError,
    ArchiveUnavailableError,
    Difference,
    Entry,
    Execution,
    Search,
    Stored,
    VersionNotFoundError,
    Withdrawal,
)

DUE = 1_700_000_000

_random_bytes = random.Random(4).randbytes

CONTENTS = {
    "empty": b"",
    "one line": b"hostname edge1\n",
    "no newline at the end": b"hostname edge1",
    "empty lines": b"\n\n\nhostname edge1\n\n\n",
    "carriage returns": b"hostname edge1\r\nend\r\n",
    "every byte": bytes(range(256)),
    "a line of 300 KB": b"x" * 300_000 + b"\n",
    "300 KB that do not deflate": _random_bytes(300_000),
    "9 MB": _random_bytes(1_000_000) * 9,
    "not UTF-8": b"description \xe9\xff\n",
    "looks like git": b"tree 0\0100644 a\0" + bytes(20),
}


class Spool:
    """Makes entries with their spool files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)

    def entry(
        self, content: bytes, *, device: str = "edge1", job: str = "show_run", due: int = DUE
    ) -> Entry:
        """An entry of which only the content need be said."""
        number = next(self._numbers)
        file = self._folder / f"result-{number}"
        file.write_bytes(content)
        return Entry(
            device=device,
            job=job,
            content=file,
            due=due,
            started_at=due + 1.5,
            ended_at=due + 2.5,
            worker_id="worker-1",
            run_id=f"run-{number}",
        )


async def store_all(archive: Archive, entries: Sequence[Entry]) -> list[Stored | BaseException]:
    """Hand in several results at once; for each where it is, or why it is not kept."""
    return await asyncio.gather(*map(archive.store, entries), return_exceptions=True)


async def content_of(
    archive: Archive, device: str = "edge1", job: str = "show_run", version: str | None = None
) -> bytes:
    """The content of one version."""
    return b"".join([piece async for piece in archive.read(device, job, version)])


def hunks(difference: Difference) -> bytes:
    """A unified difference without what may be said of a hunk behind its numbers."""
    return re.sub(rb"(?m)^(@@ [^@]* @@).*$", rb"\1", difference.unified)


class ArchiveConformance:
    """Laws of `roundsman.archive.interface`."""

    @pytest.fixture
    def spool(self, tmp_path: Path) -> Spool:
        """What makes entries; override to keep the spool elsewhere."""
        folder = tmp_path / "spool"
        folder.mkdir()
        return Spool(folder)

    async def test_an_empty_archive_has_no_versions(self, archive: Archive) -> None:
        await archive.check()
        assert await archive.versions("edge1", "show_run", limit=10) == []
        with pytest.raises(VersionNotFoundError):
            await content_of(archive)

    @pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
    async def test_what_is_stored_is_read_byte_for_byte(
        self, archive: Archive, spool: Spool, content: bytes
    ) -> None:
        stored = await archive.store(spool.entry(content))
        assert stored.changed
        assert await content_of(archive) == content
        assert await content_of(archive, version=stored.version) == content

    async def test_the_spool_file_may_go_when_store_returned(
        self, archive: Archive, spool: Spool
    ) -> None:
        entry = spool.entry(b"one\n")
        await archive.store(entry)
        assert isinstance(entry.content, Path)
        entry.content.unlink()
        assert await content_of(archive) == b"one\n"

    async def test_a_small_content_needs_no_file(self, archive: Archive, spool: Spool) -> None:
        entry = msgspec.structs.replace(spool.entry(b""), content=b"one\n")
        stored = await archive.store(entry)
        assert await content_of(archive) == b"one\n"
        again = await archive.store(spool.entry(b"one\n", due=DUE + 60))
        assert (again.changed, again.version) == (False, stored.version)

    async def test_of_several_at_once_each_stands_for_itself(
        self, archive: Archive, spool: Spool
    ) -> None:
        good = [spool.entry(b"one\n", device=f"edge{number}") for number in range(3)]
        bad = msgspec.structs.replace(good[0], device="../edge")
        first, refused, second, third = await store_all(archive, [good[0], bad, *good[1:]])
        assert isinstance(refused, ArchiveNameError)
        for entry, stored in zip(good, (first, second, third), strict=True):
            assert isinstance(stored, Stored)
            assert stored.changed
            assert await content_of(archive, device=entry.device) == b"one\n"

    async def test_versions_come_newest_first_and_stay(
        self, archive: Archive, spool: Spool
    ) -> None:
        contents = [b"one\n", b"two\n", b"three\n", b"one\n"]
        stored = [await archive.store(spool.entry(content)) for content in contents]
        versions = await archive.versions("edge1", "show_run", limit=10)
        assert [item.version for item in versions] == [item.version for item in reversed(stored)]
        assert len({item.version for item in versions}) == 4
        assert all("edge1" in item.subject and "show_run" in item.subject for item in versions)
        assert [await content_of(archive, version=item.version) for item in stored] == contents

    async def test_sizes_are_those_of_the_latest_versions(
        self, archive: Archive, spool: Spool
    ) -> None:
        for content in (b"one\n", b"three\n"):
            await archive.store(spool.entry(content))
        await archive.store(spool.entry(b"three\n", device="edge2"))
        await archive.store(spool.entry(b"", device="edge3"))
        asked = [(f"edge{number}", "show_run") for number in (3, 1, 4, 2, 1)]
        assert await archive.sizes(asked) == [0, 6, None, 6, 6]
        assert await archive.sizes([]) == []

    async def test_a_list_of_versions_has_its_limit(self, archive: Archive, spool: Spool) -> None:
        stored = [await archive.store(spool.entry(b"%d\n" % number)) for number in range(5)]
        versions = await archive.versions("edge1", "show_run", limit=2)
        assert [item.version for item in versions] == [stored[4].version, stored[3].version]

    async def test_the_list_goes_on_before_any_version(
        self, archive: Archive, spool: Spool
    ) -> None:
        stored = [await archive.store(spool.entry(b"%d\n" % number)) for number in range(5)]
        ids = [item.version for item in reversed(stored)]
        rest = await archive.versions("edge1", "show_run", limit=2, before=ids[1])
        assert [item.version for item in rest] == ids[2:4]
        assert await archive.versions("edge1", "show_run", limit=2, before=ids[4]) == []
        with pytest.raises(VersionNotFoundError):
            await archive.versions("edge1", "show_run", limit=2, before="0" * 40)

    async def test_a_version_says_what_it_is(self, archive: Archive, spool: Spool) -> None:
        await archive.store(spool.entry(b"one\n"))
        stored = await archive.store(spool.entry(b"one\ntwo\n"))
        version = await archive.version("edge1", "show_run", stored.version)
        assert version == await archive.version("edge1", "show_run")
        assert (version.number, version.size, version.lines) == (2, 8, 2)
        assert (version.run_id, version.ended_at) == ("run-2", DUE + 2)
        await archive.store(spool.entry(b"a\0\n", job="image"))
        assert (await archive.version("edge1", "image")).lines is None
        with pytest.raises(VersionNotFoundError):
            await archive.version("edge1", "show_run", "0" * 40)

    async def test_any_two_versions_are_compared(self, archive: Archive, spool: Spool) -> None:
        contents = [b"a\nb\nc\nd\n", b"a\nB\nc\nd\n", b"a\nB\nc\nd\ne\n"]
        first, second, third = [await archive.store(spool.entry(each)) for each in contents]
        last = await archive.diff("edge1", "show_run", None, None, context=1)
        assert (last.old.number, last.new.number) == (2, 3)
        assert hunks(last) == b"@@ -4 +4,2 @@\n d\n+e\n"
        back = await archive.diff("edge1", "show_run", third.version, first.version, context=0)
        assert hunks(back) == b"@@ -2 +2 @@\n-B\n+b\n@@ -5 +4,0 @@\n-e\n"
        same = await archive.diff("edge1", "show_run", second.version, second.version, context=3)
        assert (same.unified, same.binary) == (b"", False)
        for old, new in [(None, first.version), ("0" * 40, None), (None, "--help")]:
            with pytest.raises(VersionNotFoundError):
                await archive.diff("edge1", "show_run", old, new, context=3)

    async def test_what_is_no_text_is_not_compared(self, archive: Archive, spool: Spool) -> None:
        await archive.store(spool.entry(b"a\0\n"))
        await archive.store(spool.entry(b"b\0\n"))
        difference = await archive.diff("edge1", "show_run", None, None, context=3)
        assert (difference.unified, difference.binary) == (b"", True)

    async def test_each_line_knows_since_when_it_is_there(
        self, archive: Archive, spool: Spool
    ) -> None:
        for content in (b"a\nb\n", b"a\n", b"x\na\n", b"x\na\nb\n", b"x\na\nb"):
            await archive.store(spool.entry(content))
        told = await archive.origins("edge1", "show_run", None, limit=100)
        numbers = [(line.text, line.number) for line in told.lines]
        assert numbers == [("x", 3), ("a", 1), ("b", 4)]
        assert told.complete
        versions = await archive.versions("edge1", "show_run", limit=9)
        assert {line.version for line in told.lines} <= {item.version for item in versions}
        before = await archive.origins("edge1", "show_run", versions[3].version, limit=100)
        assert [line.text for line in before.lines] == ["a"]
        page = await archive.origins("edge1", "show_run", None, first=1, limit=1)
        assert (page.lines, page.count, page.complete) == (told.lines[1:2], 3, True)

    async def test_the_fleet_is_told_pair_by_pair(self, archive: Archive, spool: Spool) -> None:
        for device, job in [("b", "one"), ("a", "two"), ("a", "one"), ("c", "one"), ("a", "one")]:
            await archive.store(spool.entry(f"{device} {job}".encode(), device=device, job=job))
        await archive.store(spool.entry(b"new", device="a", job="one"))
        now = (await archive.version("a", "one")).at

        async def pairs(after: tuple[str, str], limit: int) -> list[tuple[str, str, int]]:
            found = await archive.as_of(
                now, after=after, limit=limit, chosen=lambda device, _: device != "b"
            )
            return [(each.device, each.job, each.version.number) for each in found]

        assert await pairs(("", ""), 9) == [("a", "one", 2), ("a", "two", 1), ("c", "one", 1)]
        assert await pairs(("a", "one"), 1) == [("a", "two", 1)]
        assert await pairs(("c", "one"), 9) == []

    async def test_the_fleet_is_packed(self, archive: Archive, spool: Spool) -> None:
        large = (CONTENTS["300 KB that do not deflate"] * 4)[: 2200 * tarfile.BLOCKSIZE]
        contents = {"a": b"", "b": b"x" * 512, "c": large, "d": b"behind it\n"}
        for device, content in contents.items():
            await archive.store(spool.entry(content, device=device))
        now = (await archive.version("d", "show_run")).at
        pieces = [piece async for piece in archive.snapshot(now, chosen=lambda *_: True)]
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            files = {entry.name: tar.extractfile(entry) for entry in tar}
            read = {name: file.read() for name, file in files.items() if file is not None}
        assert read == {f"{device}/show_run": content for device, content in contents.items()}

    async def test_unchanged_content_has_the_version_that_holds_it(
        self, archive: Archive, spool: Spool
    ) -> None:
        first = await archive.store(spool.entry(b"one\n"))
        other = await archive.store(spool.entry(b"one\n", device="edge2"))
        again = await archive.store(spool.entry(b"one\n", due=DUE + 60))
        assert (again.changed, again.version) == (False, first.version)
        assert other.changed
        assert len(await archive.versions("edge1", "show_run", limit=10)) == 1

    async def test_what_runs_brought_is_told_once(self, archive: Archive, spool: Spool) -> None:
        entries = [spool.entry(b"%d\n" % at, device=f"edge{at % 2}") for at in range(5)]
        stored = [(await archive.store(entry)).version for entry in entries]
        await archive.store(spool.entry(b"4\n", device="edge0"))  # as it was
        first = await archive.brought(None, limit=2)
        rest = await archive.brought(first.reached, limit=9)
        told = [(each.version, each.run_id) for each in (*first.items, *rest.items)]
        assert told == [(one, entry.run_id) for one, entry in zip(stored, entries, strict=True)]
        assert (await archive.brought(rest.reached, limit=9)).items == ()

    async def test_a_version_tells_its_execution(self, archive: Archive, spool: Spool) -> None:
        stored = await archive.store(spool.entry(b"x\n", due=DUE + 7))
        told = await archive.execution("edge1", "show_run", stored.version)
        assert told == Execution(due=DUE + 7, worker_id="worker-1")

    async def test_what_is_refused_is_withdrawn_and_what_was_before_put_back(
        self, archive: Archive, spool: Spool
    ) -> None:
        before = await archive.store(spool.entry(b"before\n"))
        refused = await archive.store(spool.entry(b"refused\n"))
        gone = await archive.store(spool.entry(b"refused\n", device="edge2"))
        withdrawals = [
            Withdrawal(device="edge1", job="show_run", version=refused.version),
            Withdrawal(device="edge2", job="show_run", version=gone.version),
            Withdrawal(device="edge3", job="show_run", version=gone.version),
        ]
        await archive.withdraw(withdrawals)
        await archive.withdraw(withdrawals)  # which says it once
        told = await archive.versions("edge1", "show_run", limit=9)
        assert [each.withdrawn for each in told] == [False, True, False]
        assert [each.version for each in told[1:]] == [refused.version, before.version]
        assert await content_of(archive) == b"before\n"
        assert await content_of(archive, version=refused.version) == b"refused\n"
        runs = [each.run_id for each in (await archive.brought(None, limit=9)).items]
        assert runs == ["run-1"]
        with pytest.raises(VersionNotFoundError):
            await content_of(archive, "edge2")
        assert await archive.sizes([("edge1", "show_run"), ("edge2", "show_run")]) == [7, None]
        now = told[0].at
        fleet = await archive.as_of(now, after=("", ""), limit=9, chosen=lambda *_: True)
        assert [(each.device, each.version) for each in fleet] == [("edge1", told[0])]
        for history, number in ((False, []), (True, [("edge1", 2), ("edge2", 1)])):
            search = Search(text="refused", history=history, chosen=lambda *_: True)
            found = (await archive.search(search)).items
            assert [(each.device, each.number) for each in found] == number
            assert all(each.withdrawn for each in found)
        change = await archive.diff("edge1", "show_run", None, None, context=3)
        assert (change.old, change.new, change.unified) == (told[2], told[0], b"")
        lines = (await archive.origins("edge1", "show_run", None, limit=9)).lines
        assert [(line.text, line.number) for line in lines] == [("before", 1)]
        unchanged = await archive.store(spool.entry(b"before\n"))
        assert unchanged == Stored(version=before.version, changed=False)
        for device in ("edge1", "edge2"):
            again = await archive.store(spool.entry(b"refused\n", device=device))
            assert again.changed
            assert again.version not in (refused.version, gone.version)
            assert await content_of(archive, device) == b"refused\n"

    async def test_what_another_took_the_place_of_is_withdrawn_alone(
        self, archive: Archive, spool: Spool
    ) -> None:
        refused = await archive.store(spool.entry(b"refused\n"))
        stands = await archive.store(spool.entry(b"stands\n"))
        await archive.withdraw(
            [Withdrawal(device="edge1", job="show_run", version=refused.version)]
        )
        told = await archive.versions("edge1", "show_run", limit=9)
        assert [(each.version, each.withdrawn) for each in told] == [
            (stands.version, False),
            (refused.version, True),
        ]

    async def test_unchanged_large_content_has_the_version_that_holds_it(
        self, archive: Archive, spool: Spool
    ) -> None:
        content = CONTENTS["9 MB"]
        first = await archive.store(spool.entry(content))
        again = await archive.store(spool.entry(content))
        assert (again.changed, again.version) == (False, first.version)

    async def test_paths_do_not_mix(self, archive: Archive, spool: Spool) -> None:
        # Names that git orders unlike Python, names that begin alike, a device named like a job.
        pairs = [
            ("edge", "show_run"),
            ("edge-1", "show_run"),
            ("edge.1", "show_run"),
            ("edge1", "show_run"),
            ("edge1", "show_run.2"),
            ("edge1", "show"),
            ("show_run", "edge1"),
            ("2001:db8::1", "a b@c+d"),
        ]
        for device, job in pairs:
            await archive.store(spool.entry(f"{device} {job}".encode(), device=device, job=job))
        for device, job in reversed(pairs):
            assert await content_of(archive, device, job) == f"{device} {job}".encode()
            assert len(await archive.versions(device, job, limit=10)) == 1

    async def test_500_at_once_are_500_versions(self, archive: Archive, spool: Spool) -> None:
        """Fault 4: of 500 completions at once, 3 to 19 were in the repository."""
        entries = [spool.entry(b"%d\n" % number, device=f"d{number}") for number in range(500)]
        stored = await asyncio.gather(*map(archive.store, entries))
        assert all(item.changed for item in stored)
        for number, item in enumerate(stored):
            versions = await archive.versions(f"d{number}", "show_run", limit=10)
            assert [version.version for version in versions] == [item.version]
        for number in range(0, 500, 100):
            assert await content_of(archive, f"d{number}") == b"%d\n" % number

    async def test_one_path_at_once_keeps_every_version_in_order(
        self, archive: Archive, spool: Spool
    ) -> None:
        """Fault 5: two results for one pair at once made empty commits, or hung for ever."""
        entries = [spool.entry(b"%d\n" % number) for number in range(40)]
        stored = await asyncio.gather(*map(archive.store, entries))
        versions = await archive.versions("edge1", "show_run", limit=100)
        assert len({item.version for item in stored}) == 40
        assert [item.version for item in versions] == [item.version for item in reversed(stored)]
        for number, item in enumerate(stored):
            assert await content_of(archive, version=item.version) == b"%d\n" % number

    async def test_the_same_result_at_once_is_one_version(
        self, archive: Archive, spool: Spool
    ) -> None:
        """Faults 5 and 7: the same result, twice at once, is kept once."""
        stored = await asyncio.gather(*(archive.store(spool.entry(b"one\n")) for _ in range(20)))
        assert sorted(item.changed for item in stored) == [False] * 19 + [True]
        assert len({item.version for item in stored}) == 1
        assert len(await archive.versions("edge1", "show_run", limit=100)) == 1

    @pytest.mark.parametrize(
        "name",
        ["../../../../x", "/etc/x", "a/b", "a\0b", "", ".", "..", ".git", "-x", "a\n", "a" * 201],
    )
    async def test_a_name_that_is_not_allowed_is_refused(
        self, archive: Archive, spool: Spool, name: str, tmp_path: Path
    ) -> None:
        """Fault 6: `device=../../../../x` wrote outside the repository."""
        before = sorted(tmp_path.parent.rglob("*x*"))
        with pytest.raises(ArchiveNameError):
            await archive.store(spool.entry(b"one\n", device=name))
        with pytest.raises(ArchiveNameError):
            await archive.store(spool.entry(b"one\n", job=name))
        assert sorted(tmp_path.parent.rglob("*x*")) == before
        assert await archive.versions(name, "show_run", limit=10) == []
        with pytest.raises(VersionNotFoundError):
            await content_of(archive, name)

    async def test_an_unknown_version_is_not_found(self, archive: Archive, spool: Spool) -> None:
        stored = await archive.store(spool.entry(b"one\n"))
        other = await archive.store(spool.entry(b"two\n", device="edge2"))
        assert await content_of(archive, version=stored.version) == b"one\n"
        for version in ("0" * 40, "main", "--all", "", other.version):
            with pytest.raises(VersionNotFoundError):
                await content_of(archive, version=version)

    async def test_a_spool_file_that_is_gone_fails_alone(
        self, archive: Archive, spool: Spool
    ) -> None:
        gone = spool.entry(b"gone\n", device="edge9")
        assert isinstance(gone.content, Path)
        gone.content.unlink()
        answers = await asyncio.gather(
            archive.store(spool.entry(b"one\n")),
            archive.store(gone),
            archive.store(spool.entry(b"two\n", device="edge2")),
            return_exceptions=True,
        )
        assert isinstance(answers[1], ArchiveUnavailableError)
        assert await content_of(archive) == b"one\n"
        assert await content_of(archive, "edge2") == b"two\n"

    async def test_a_caller_that_gives_up_harms_nobody(
        self, archive: Archive, spool: Spool
    ) -> None:
        given_up = [
            asyncio.create_task(archive.store(spool.entry(b"one\n", device=f"d{number}")))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        for task in given_up:
            task.cancel()
        stored = await archive.store(spool.entry(b"two\n"))
        await asyncio.gather(*given_up, return_exceptions=True)
        assert stored.changed
        assert await content_of(archive) == b"two\n"
