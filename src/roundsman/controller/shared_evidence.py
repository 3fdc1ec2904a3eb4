"""What runs left behind at any controller on the same ledger.

It stays with the controller that took it in. Another one that is asked for it asks the others, and
keeps a copy, within the same bounds of time and room.
"""

from pathlib import Path

from roundsman.controller.evidence import Evidence
from roundsman.controller.membership import Membership
from roundsman.controller.peers import PeerError, Peers
from roundsman.errors import UnavailableError

PEERS_PATH = "/api/v1/peers/runs"
"""Where other controllers ask for what is here."""


class EvidenceElsewhereError(UnavailableError):
    """It is not here, and a controller that may have it cannot be reached."""

    code = "evidence.elsewhere"


class SharedEvidence:
    """Finds the evidence of a run, wherever it is."""

    def __init__(self, *, evidence: Evidence, peers: Peers, membership: Membership) -> None:
        """Nobody is asked yet."""
        self._evidence = evidence
        self._peers = peers
        self._membership = membership

    async def path(self, run_id: str, *, recording: bool = False) -> Path | None:
        """The file with what a run left behind, or with the recording of its session, now here.

        None where no controller that is up has it. Takes only ids of runs that are known. Raises
        `EvidenceElsewhereError`, `SpoolUnavailableError`.
        """
        here = self._evidence
        path = here.recording_path(run_id) if recording else here.path(run_id)
        if path.is_file():
            return path
        unreached: PeerError | None = None
        for other in self._membership.others():
            try:
                if await self._bring(other.controller_id, run_id, path, recording=recording):
                    return path
            except PeerError as error:
                unreached = error
        if unreached is not None:
            raise EvidenceElsewhereError(
                f"what run {run_id} left behind is not here, and another controller cannot be asked"
                f" for it: {unreached.text}",
                remedy=unreached.remedy,
            ) from unreached
        return None

    async def _bring(self, controller_id: str, run_id: str, path: Path, *, recording: bool) -> bool:
        """Have another controller's copy here, if it has one. Raises `PeerError`."""
        target = f"{PEERS_PATH}/{run_id}/evidence?recording={int(recording)}"
        answer = await self._peers.get(controller_id, target)
        if answer.status != 200:
            await answer.whole()
            return False
        await self._evidence.copy(path, answer.parts())
        return True
