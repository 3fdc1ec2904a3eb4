"""Windows: when scheduled runs may be started, and for whom."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import msgspec

from roundsman.config.records import Day, OneTime, WeeklyTime, WindowKind, WindowSettings
from roundsman.documents.problems import Finding, Path
from roundsman.schedules.interface import ScheduleError
from roundsman.schedules.wall import instant_of, zone_of
from roundsman.schedules.windows import ALWAYS, Stretch, Weekly, Window, Windows
from roundsman.wire.device import Device

_DAYS: Final = tuple(Day)
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]|24(?=:00)):([0-5][0-9])")


class WindowsOfSlots:
    """All windows of a configuration, by whom they are for."""

    def __init__(self, says: Mapping[str, Any]) -> None:
        """Take the section of the file; what is wrong in it is in `findings`."""
        self.findings: list[Finding] = []
        self._windows: list[tuple[WindowSettings, Window]] = []
        self._unused: dict[str, None] = {}
        self._known: dict[tuple[str, ...], Windows] = {(): ALWAYS}
        for name, entry in says.items():
            window = self._read(name, msgspec.convert(entry or {}, WindowSettings))
            if window is not None:
                self._windows.append(window)
                self._unused[name] = None

    def of(self, device: Device, job: str) -> Windows:
        """Those that a device's job is under; shared by all that are under the same."""
        windows = [window for settings, window in self._windows if _is_for(settings, device, job)]
        names = tuple(window.name for window in windows)
        for name in names:
            self._unused.pop(name, None)
        if names not in self._known:
            self._known[names] = Windows(windows)
        return self._known[names]

    def warnings(self) -> list[str]:
        """A sentence for each window that is for nobody; ask when all slots are built."""
        return [
            f"windows.{name}: no device and job are under it: see its devices, tags and jobs"
            for name in self._unused
        ]

    def _read(self, name: str, says: WindowSettings) -> tuple[WindowSettings, Window] | None:
        path = ("windows", name)
        if not says.weekly and not says.once:
            text = "weekly or once is needed"
            self.findings.append(Finding("config.missing", path, text))
            return None
        try:
            zone = zone_of(says.timezone)
        except ScheduleError as error:
            self.findings.append(Finding("config.timezone", (*path, "timezone"), error.text))
            zone = UTC  # for the sake of what else is wrong
        once = [self._once((*path, "once", n), each, zone) for n, each in enumerate(says.once)]
        weekly = [self._weekly((*path, "weekly", n), each) for n, each in enumerate(says.weekly)]
        window = Window(
            name=name,
            closes=says.kind is WindowKind.BLACKOUT,
            zone=zone,
            weekly=tuple(each for each in weekly if each is not None),
            once=tuple(each for each in once if each is not None),
        )
        return says, window

    def _weekly(self, path: Path, says: WeeklyTime) -> Weekly | None:
        times = []
        for key, text in (("start", says.start), ("end", says.end)):
            found = _TIME.fullmatch(text)
            if found is None:
                said = f'"{text}": expected a time of the day such as 06:30, or 24:00'
                self.findings.append(Finding("config.window", (*path, key), said))
            else:
                times.append(timedelta(hours=int(found[1]), minutes=int(found[2])))
        if len(times) < 2:
            return None
        begin, end = times
        return Weekly(
            days=frozenset(_DAYS.index(day) for day in says.days or _DAYS),
            begin=begin,
            end=end if begin < end else end + timedelta(days=1),
        )

    def _once(self, path: Path, says: OneTime, zone: tzinfo) -> Stretch | None:
        instants = []
        for key, text in (("start", says.start), ("end", says.end)):
            try:
                instants.append(_instant(text, zone))
            except ValueError:
                said = f'"{text}": expected a date and time such as 2026-12-20T18:00'
                self.findings.append(Finding("config.window", (*path, key), said))
        if len(instants) < 2:
            return None
        begin, end = instants
        if begin >= end:
            text = "it has to end later than it starts"
            self.findings.append(Finding("config.window", path, text))
            return None
        return Stretch(begin, end)


def _is_for(says: WindowSettings, device: Device, job: str) -> bool:
    return (
        (not says.devices or device.name in says.devices)
        and (not says.tags or not set(says.tags).isdisjoint(device.tags))
        and (not says.jobs or job in says.jobs)
    )


def _instant(text: str, zone: tzinfo) -> int:
    read = datetime.fromisoformat(text)
    if read.tzinfo is not None:
        return int(read.timestamp())
    return instant_of(read.replace(microsecond=0), zone)
