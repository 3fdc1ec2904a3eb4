"""Why a connection for a file did not come about."""

import socket
import ssl

from roundsman.worker.sessions.errors import (
    HostKeyError,
    RefusedError,
    SessionError,
    UnreachableError,
)


def explain(error: Exception, where: str, connect_seconds: float) -> SessionError:
    """What `error`, met while connecting to `where`, means."""
    match error:
        case ssl.SSLCertVerificationError():
            return HostKeyError(
                f"the certificate of {where} is not accepted: {error.verify_message}",
                remedy="give the device protocol.tls.ca_file, with the authority that signed it, "
                "or protocol.tls.fingerprints",
            )
        case ssl.SSLError():
            return RefusedError(
                f"{where} and the worker have no way of speaking TLS in common: "
                f"{error.reason or 'no reason given'}"
            )
        case TimeoutError():
            return UnreachableError(f"{where} did not answer within {connect_seconds:g} s")
        case ConnectionRefusedError():
            return RefusedError(f"{where} refused the connection")
        case socket.gaierror():
            return UnreachableError(f"{where} was not found: {error.strerror}")
        case ConnectionError():
            return RefusedError(f"{where} ended the connection before anything was asked")
        case _:
            return UnreachableError(f"{where} cannot be reached: {error}")
