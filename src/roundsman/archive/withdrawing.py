"""Versions that are withdrawn: a commit says so, and puts back what they had replaced.

A commit never changes, and others stand on it. So of a result that was written and is not what was
kept of its run, a later commit says that, by trailers:

    Roundsman-Withdrawn: <the commit>
    Roundsman-Device: <whose result it held>
    Roundsman-Job: <whose result it held>
    Roundsman-Kept: <the commit that was kept, of the same content>

Without the last the run's result was refused. Where such a result still stands at its paths, the
commit puts back the version that came last beside it, or removes it where there is none.
"""

from collections.abc import Mapping

import msgspec

from roundsman.archive.batch import Batch
from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.commits import withdrawing_subject
from roundsman.archive.copies import Places
from roundsman.archive.history import Beside, History
from roundsman.archive.interface import Withdrawal
from roundsman.archive.large import POINTER_BYTES, parse_pointer
from roundsman.archive.objects import BLOB
from roundsman.archive.walking import Kept


class Withdrawing:
    """Fills batches that withdraw. Belongs to the writer's thread."""

    def __init__(self, git: Git, reader: ObjectReader, history: History) -> None:
        self._git = git
        self._reader = reader
        self._history = history

    def brought_by(self, each: Withdrawal) -> bytes | None:
        """The content of a version; none where it is not here, or was withdrawn."""
        return self._history.blob_of(each.device, each.job, bytes.fromhex(each.version))

    def fill(
        self, work: Batch, wanted: Mapping[Withdrawal, bytes], places: Mapping[Withdrawal, Places]
    ) -> None:
        """Withdraw these, of which is known what they brought and where they stand.

        What says again what one that is refused had brought is withdrawn with it.
        """
        commits = [bytes.fromhex(each.version) for each in wanted]
        withdrawn = [*wanted]
        standing: list[tuple[Withdrawal, Beside]] = []
        for each, blob in wanted.items():
            before = self._history.beside(each.device, each.job, commits)
            if each.kept is not None or (before is not None and before.blob == blob):
                continue
            withdrawn += [
                msgspec.structs.replace(each, version=commit.hex())
                for commit in self._history.said_again(each.device, each.job, blob)
            ]
            if work.blob(places[each].path) == blob and before is not None:
                standing.append((each, before))
            for path in places[each].all:
                if work.blob(path) == blob:
                    self._put_back(work, path, before)
        commit = work.seal_withdrawal(withdrawn)
        subject = withdrawing_subject(withdrawn)
        work.versions += [
            Kept(
                device=each.device,
                job=each.job,
                commit=commit,
                blob=before.blob,
                at=int(work.now),
                ended_at=int(work.now),
                subject=subject,
                size=before.size,
                lines=before.lines,
            )
            for each, before in standing
        ]

    def _put_back(self, work: Batch, path: bytes, before: Beside | None) -> None:
        if before is None:
            work.take_away(path)
        else:
            pointer = self._is_pointer(before)
            work.put_back(path, before.blob, pointer=pointer, changed_at=before.at)

    def _is_pointer(self, before: Beside) -> bool:
        """Whether it stands for a content beside the repository."""
        if before.lines is not None:
            return False
        if int(self._git.run("cat-file", "-s", before.blob.hex())) > POINTER_BYTES:
            return False
        return parse_pointer(self._reader.read(BLOB, [before.blob])[0]) is not None
