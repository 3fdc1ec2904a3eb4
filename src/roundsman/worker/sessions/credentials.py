"""Which credentials to try, and in which order."""

from roundsman.wire.device import Credentials, Host


class CredentialOrder:
    """Remembers what worked, so that devices see few failed attempts. One for a worker.

    Kept in memory: after a restart the order is as configured. Only hosts where it was not the
    first that worked take room.
    """

    def __init__(self) -> None:
        self._worked: dict[tuple[str, str], int] = {}

    def ordered(self, host: Host) -> tuple[Credentials, ...]:
        """The credentials of a host: what worked last, then the others as configured."""
        worked = self._worked.get(_key(host))
        return tuple(sorted(host.all_credentials, key=lambda one: hash(one) != worked))

    def worked(self, host: Host, credentials: Credentials) -> None:
        """Try these first the next time."""
        if credentials == host.credentials:
            self._worked.pop(_key(host), None)
        else:
            self._worked[_key(host)] = hash(credentials)


def _key(host: Host) -> tuple[str, str]:
    return type(host).__name__, host.name
