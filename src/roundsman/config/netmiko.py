"""Platforms named `netmiko:<device_type>`: netmiko's drivers, for what has no platform file."""

from collections.abc import Sequence
from functools import cache
from typing import Final

from roundsman.documents.problems import Finding, and_more, did_you_mean

_PREFIX: Final = "netmiko:"

_OTHER_LINES: Final = {
    "telnet": "leave out _telnet, and set protocol.type: telnet",
    "serial": "leave out _serial: workers have no serial line",
}


def driver_of(reference: str | None) -> str | None:
    """The driver that a platform's name stands for; none where it is a platform of ours.

    >>> driver_of("netmiko:accedian"), driver_of("cisco_ios")
    ('accedian', None)
    """
    if reference is None or not reference.startswith(_PREFIX):
        return None
    return reference.removeprefix(_PREFIX)


def driver_findings(driver: str) -> list[Finding]:
    """What is wrong with the name of a driver; only where netmiko is installed are all known."""
    path = ("platform",)
    if not driver:
        text = "the name of a driver of netmiko is missing"
        return [Finding("config.unknown_platform", path, text, "such as netmiko:accedian")]
    kind = driver.rpartition("_")[2]
    if kind in _OTHER_LINES:
        text = f"{driver} speaks by {kind}: the protocol of the device says how it is spoken to"
        return [Finding("config.unknown_platform", path, text, _OTHER_LINES[kind])]
    known = _known_drivers()
    if known and driver not in known:
        text = f'netmiko has no driver "{driver}"'
        return [Finding("config.unknown_platform", path, text, did_you_mean(driver, known))]
    return []


def driver_warnings(devices: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of devices that are read by netmiko."""
    if not devices:
        return ()
    text = (
        f"{and_more(devices)}: read by netmiko, which takes a pattern for the end of an output, so "
        "that a backup is less certain to be whole than with a platform file"
    )
    return (text,)


@cache
def _known_drivers() -> tuple[str, ...]:
    """All drivers; none where netmiko, an extra, is not installed."""
    try:
        import netmiko  # noqa: PLC0415 - takes a second, for the few configurations that name one
    except ImportError:
        return ()
    return tuple(netmiko.platforms)
