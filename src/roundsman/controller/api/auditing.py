"""Brings what is attempted over HTTP into the audit: a route says which action it is.

A line is written before the answer leaves, whatever the answer: also of what the guard refused, of
bodies that could not be read, and of faults of ours.
"""

from typing import Any, Final

import msgspec
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from roundsman.controller.access import ForbiddenError, Principal, UnauthenticatedError
from roundsman.controller.api import errors
from roundsman.controller.audit import Audit
from roundsman.errors import RoundsmanError
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome

_DRAFT: Final = "audit"
_OF_PATHS: Final = frozenset({"worker_id", "process_id", "batch_id", "device", "job", "run_id"})
_CHARACTERS: Final = 200  # of what a path names, known or not


class _Draft:
    """What is known of a line so far."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self.error: Exception | None = None
        self.written = False
        """Whether whoever carried it out has written the line."""


def about(scope: Scope, **fields: Any) -> None:
    """Say more of what this call is about: fields of the audit's line."""
    draft: _Draft | None = scope["state"].get(_DRAFT)
    if draft is not None:
        draft.about.update(fields)


def is_written(scope: Scope) -> None:
    """Say that the line of this call is kept already, with its outcome."""
    draft: _Draft | None = scope["state"].get(_DRAFT)
    if draft is not None:
        draft.written = True


async def keep_error(error: Exception, scope: Scope) -> None:
    """Remember why a call fails; called by the framework for each error."""
    instead(scope, error)


def instead(scope: Scope, error: Exception) -> None:
    """Say why a call fails by this error, in our words, where the framework has others."""
    draft: _Draft | None = scope.get("state", {}).get(_DRAFT)
    if draft is not None:
        draft.error = error


class Audited:
    """Makes a route write its lines: `middleware=[Audited(AuditAction.PAUSE_JOB)]`."""

    def __init__(self, action: AuditAction, *, refusals_only: bool = False) -> None:
        """Take calls of the route for this action; of reading, only what was refused is kept."""
        self._action = action
        self._refusals_only = refusals_only

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """The route's application, watched."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            draft = scope["state"][_DRAFT] = _Draft()

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start" and not draft.written:
                    draft.written = True
                    await self._write(scope, draft)
                await send(message)

            await app(scope, receive, watch)
            if scope["type"] == ScopeType.WEBSOCKET and draft.error is not None:
                await self._write(scope, draft)

        return watched

    async def _write(self, scope: Scope, draft: _Draft) -> None:
        outcome = _outcome(draft.error)
        if self._refusals_only and not isinstance(
            draft.error, (UnauthenticatedError, ForbiddenError)
        ):
            return
        audit: Audit = scope["litestar_app"].state.controller.audit
        entry = self._entry(audit, scope, draft, outcome)
        if isinstance(draft.error, (UnauthenticatedError, ForbiddenError)):
            await audit.count(entry)
        else:
            await audit.write(entry)

    def _entry(
        self, audit: Audit, scope: Scope, draft: _Draft, outcome: AuditOutcome
    ) -> AuditEntry:
        named = {
            name: str(value)[:_CHARACTERS]
            for name, value in scope.get("path_params", {}).items()
            if name in _OF_PATHS
        }
        reason, code = _reason(draft.error)
        by = scope.get("user")
        client = scope["client"]
        more = {**named, **draft.about}
        entry = audit.entry(
            self._action,
            more.pop("outcome", outcome),
            by=by if isinstance(by, Principal) else None,
            reason=reason,
            code=code,
            **more,
        )
        # Also where nobody is known to call.
        return msgspec.structs.replace(entry, address=None if client is None else client[0])


def _reason(error: Exception | None) -> tuple[str | None, str | None]:
    match error:
        case None:
            return None, None
        case RoundsmanError():
            return errors.sentence(error), error.code
        case HTTPException():
            return error.detail, errors.http_code(error)
        case _:
            return errors.FAULT.error, errors.FAULT.code


def _outcome(error: Exception | None) -> AuditOutcome:
    match error:
        case None:
            return AuditOutcome.DONE
        case RoundsmanError():
            status = errors.status_of(error)
        case HTTPException():
            status = error.status_code
        case _:
            status = 500
    return AuditOutcome.REFUSED if status < 500 else AuditOutcome.FAILED
