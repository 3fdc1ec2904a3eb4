"""What goes wrong in a session with a device, each kind with its failure class."""

from typing import ClassVar

from roundsman.errors import RoundsmanError
from roundsman.wire.run import FailureClass


class SessionError(RoundsmanError):
    """A session did not do what it should have.

    `text` names what was expected. It holds nothing of the device's output, which may be secret.
    """

    code = "session.failed"
    failure_class: ClassVar[FailureClass] = FailureClass.INTERNAL


class UnreachableError(SessionError):
    """No connection: no route, no answer, name not found."""

    code = "session.unreachable"
    failure_class = FailureClass.UNREACHABLE


class RefusedError(SessionError):
    """The device refused the connection, or no protocol is common to both sides."""

    code = "session.refused"
    failure_class = FailureClass.REFUSED


class HostKeyError(SessionError):
    """The device's host key is unknown or has changed."""

    code = "session.host_key"
    failure_class = FailureClass.HOST_KEY


class AuthenticationError(SessionError):
    """The credentials were not accepted, or cannot be used."""

    code = "session.authentication"
    failure_class = FailureClass.AUTHENTICATION


class PromptError(SessionError):
    """The prompt never came, or cannot be told from what surrounds it."""

    code = "session.prompt"
    failure_class = FailureClass.PROMPT


class EnableError(SessionError):
    """The privileged mode was not reached."""

    code = "session.enable"
    failure_class = FailureClass.ENABLE


class RejectedError(SessionError):
    """The device did not accept a command."""

    code = "session.rejected"
    failure_class = FailureClass.REJECTED


class UnverifiedError(SessionError):
    """The output of a command does not end as it should."""

    code = "session.unverified"
    failure_class = FailureClass.UNVERIFIED


class PlatformError(SessionError):
    """What is said of the device's operating system cannot be used."""

    code = "session.platform"
    failure_class = FailureClass.INVALID


class CommandError(SessionError):
    """The output of a command is not what was expected of it."""

    code = "session.command"
    failure_class = FailureClass.COMMAND


class FileError(SessionError):
    """A file could not be fetched or unpacked."""

    code = "session.file"
    failure_class = FailureClass.FILE


class TimedOutError(SessionError):
    """A time limit was reached."""

    code = "session.timed_out"
    failure_class = FailureClass.TIMED_OUT


class ClosedEarlyError(SessionError):
    """The device closed the connection in the middle."""

    code = "session.closed_early"
    failure_class = FailureClass.CLOSED_EARLY


class SecretsError(SessionError):
    """Something in the result looks like a secret, which the job refuses."""

    code = "session.secrets"
    failure_class = FailureClass.SECRETS


class TooLargeError(SessionError):
    """The device sent more than the job allows."""

    code = "session.too_large"
    failure_class = FailureClass.TOO_LARGE


def quote(text: str) -> str:
    """A reason that the device gave: bounded, printable."""
    return "".join(c if c.isprintable() else " " for c in text[:200]).strip() or "no reason given"
