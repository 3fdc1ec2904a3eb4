"""TLS towards devices: certificates are checked, by the device's own word of how."""

import hashlib
import ssl

from roundsman.wire.device import Tls
from roundsman.worker.sessions.errors import HostKeyError


def client_context(settings: Tls) -> ssl.SSLContext:
    """How connections to a device are begun.

    With fingerprints a certificate counts by its fingerprint alone: whoever signed it, whatever
    names and times it bears. Otherwise an authority must have signed it, the device's own or one of
    the system's, for the name by which the device is called.
    """
    try:
        context = ssl.create_default_context(cadata=settings.ca)
    except (ssl.SSLError, ValueError):
        raise HostKeyError(
            "the authority given with the device cannot be read: expected certificates in PEM",
            remedy="correct protocol.tls.ca_file of the device",
        ) from None
    if settings.fingerprints:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.sslobject_class = _checked_against(settings.fingerprints)
    return context


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, as hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()


def _checked_against(fingerprints: tuple[str, ...]) -> type[ssl.SSLObject]:
    """Connections that hold the certificate against these before a byte passes through them."""

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = fingerprint(self.getpeercert(binary_form=True) or b"")
            if shown not in fingerprints:
                error = ssl.SSLCertVerificationError("wrong certificate")
                error.verify_message = (
                    f"expected the fingerprint {' or '.join(fingerprints)}, got {shown}"
                )
                raise error

    return Checked
