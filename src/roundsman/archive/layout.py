"""Where results stand in the repository: `by_device/<device>/<job>`."""

from typing import Final

from roundsman.wire.names import is_valid_name

ROOT: Final = b"by_device"


def device_and_job(path: bytes) -> tuple[str, str] | None:
    """Whose result a path holds; none for a path that holds none.

    >>> device_and_job(b"by_device/edge1/show_run"), device_and_job(b"README.md")
    (('edge1', 'show_run'), None)
    """
    parts = path.decode(errors="replace").split("/")
    if len(parts) != 3 or parts[0] != ROOT.decode() or not all(map(is_valid_name, parts)):
        return None
    return parts[1], parts[2]
