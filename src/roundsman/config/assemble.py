"""A checked document to a configuration: every device, every job, every pair of them."""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple

import msgspec

from roundsman.config.capitals import capital_warnings
from roundsman.config.devices import Devices
from roundsman.config.inherit import (
    Expanded,
    Generics,
    Layer,
    Layers,
    Plain,
    merge,
    merge_device,
    merge_job,
    origin,
)
from roundsman.config.jobs import Built, JobTemplate
from roundsman.config.netmiko import driver_warnings
from roundsman.config.plans import Schedules
from roundsman.config.platforms import (
    NoStandardJob,
    PlatformJobs,
    Platforms,
    unfit,
)
from roundsman.config.records import Configuration, ConfiguredSlot, ControllerSettings
from roundsman.config.secrets import Secrets
from roundsman.config.settings import build_settings, clash_findings
from roundsman.config.windows import WindowsOfSlots
from roundsman.documents.problems import Finding, Path, and_more, did_you_mean, one_of
from roundsman.wire.device import Device
from roundsman.wire.job import DetectedSecrets, Job
from roundsman.wire.names import NAME_RULE, is_valid_name

# What an entry may be found guilty of only because something was taken from it as wrong.
_NO_NEWS: Final = frozenset({"config.missing", "config.conflict", "config.open"})


class _Unset(NamedTuple):
    """A variable that nothing sets: where it is used, and what else was set there."""

    path: Path
    name: str


class Assembly:
    """Builds one configuration and collects what is wrong with it.

    Jobs are shared by all devices on which they read the same: one template for each way in which
    devices override a job, and one record for each set of template values used.
    """

    def __init__(
        self, document: Plain, secrets: Secrets, platforms: Platforms, spoiled: set[Path]
    ) -> None:
        """Take a document of which only what the schema allows is left.

        `spoiled` are the entries that lost something: what is missing from them is no news.
        """
        self._document = document
        self._spoiled = spoiled
        self._schedules = Schedules()
        self._secrets = secrets
        self._devices = Devices(secrets, platforms)
        self._job_generics = Generics("job_generics", self._section("job_generics"), merge_job)
        self._device_generics = Generics(
            "device_generics", self._section("device_generics"), merge_device
        )
        self._jobs: dict[str, Expanded] = {}
        self._templates: dict[tuple[str, bytes], JobTemplate] = {}
        self._platform_jobs = PlatformJobs(platforms)
        self._windows = WindowsOfSlots({})
        self._unfit: dict[Finding, list[str]] = {}
        self._unset: dict[_Unset, list[str]] = {}
        self._values_seen: set[str] = set()
        self._detected_secrets = ControllerSettings().detected_secrets
        self.findings: dict[Finding, None] = {}
        """Each once, with paths from the top of the document."""

    def run(self, folder: FilePath) -> Configuration:
        """The configuration; of use only when there are no findings after it."""
        controller = ControllerSettings(data=folder / ControllerSettings().data)
        if says := self._document.get("controller"):
            controller, findings = build_settings(says, folder, self._secrets)
            self._place(findings, (Layer(("controller",), says),))
        self._detected_secrets = controller.detected_secrets
        jobs = dict(self._build_jobs())
        for name, says in self._section("jump_hosts").items():
            self._check_name("jump_hosts", name)
            present = merge({}, says)
            self._place(
                self._devices.add_jump_host(name, present), (Layer(("jump_hosts", name), says),)
            )
        self._windows = WindowsOfSlots(self._section("windows"))
        for finding in self._windows.findings:
            self.findings[finding] = None
        devices: dict[str, Device] = {}
        slots: dict[tuple[str, str], ConfiguredSlot] = {}
        said = self._document.get("devices") or {}
        for name in [*said]:
            says = said.pop(name) or {}  # what is built makes room: there may be a hundred thousand
            self._check_name("devices", name)
            expanded = self._device_generics.expand(("devices", name), says)
            device, findings = self._devices.build(name, expanded.says)
            self._place(findings, expanded.layers)
            if device is not None:
                devices[name] = device
            for slot in self._build_slots(name, device, expanded):
                slots[name, slot.job.name] = slot
        findings = clash_findings(controller.archive.paths, devices.values(), jobs)
        self._place(findings, (Layer(("controller",), self._document.get("controller") or {}),))
        for finding in (*self._job_generics.findings, *self._device_generics.findings):
            self.findings[finding] = None
        self._report_unset()
        for finding in self._platform_jobs.findings():
            self.findings[finding] = None
        for finding, names in self._unfit.items():
            self.findings[finding._replace(text=f"{and_more(names)}: {finding.text}")] = None
        return Configuration(
            devices=devices,
            jobs=jobs,
            slots=slots,
            controller=controller,
            warnings=(
                *driver_warnings([d.name for d in devices.values() if d.netmiko is not None]),
                *self._windows.warnings(),
                *capital_warnings("devices", devices),
                *capital_warnings("jobs", jobs),
            ),
        )

    def _section(self, name: str) -> dict[str, Plain]:
        return {key: says or {} for key, says in (self._document.get(name) or {}).items()}

    def _check_name(self, section: str, name: str) -> None:
        if not is_valid_name(name):
            self.findings[Finding("config.name", (section, name), f"expected {NAME_RULE}")] = None

    def _place(self, findings: list[Finding] | tuple[Finding, ...], layers: Layers) -> None:
        """Keep findings about an expanded entry, where their cause stands in the file."""
        if not findings:
            return
        spoiled = self._are_spoiled(layers)
        for finding in findings:
            if not (spoiled and finding.code in _NO_NEWS):
                self.findings[finding._replace(path=origin(layers, finding.path))] = None

    def _are_spoiled(self, layers: Layers) -> bool:
        return any(layer.path[:2] in self._spoiled for layer in layers)

    def _build_jobs(self) -> Iterator[tuple[str, Job]]:
        for name, says in self._section("jobs").items():
            self._check_name("jobs", name)
            expanded = self._job_generics.expand(("jobs", name), says)
            self._jobs[name] = expanded
            template = self._template(name, {})
            built = template.build(_values(template, {}, {}))
            self._place([*template.findings, *built.findings], expanded.layers)
            # The record keeps the variables: what they stand for may be secret.
            as_written = template.build((None,) * len(template.uses))
            if built.job is not None and as_written.job is not None:
                yield name, as_written.job

    def _template(self, name: str, override: Plain) -> JobTemplate:
        """A job with what a device says of it; template values aside, they are no part of it."""
        different = {key: value for key, value in override.items() if key != "template_values"}
        key = (name, msgspec.json.encode(different, order="deterministic") if different else b"")
        template = self._templates.get(key)
        if template is None:
            says = self._jobs[name].says
            if different:
                says = merge_job(says, different)
            kept = says.get("keep_secrets", False)
            default = DetectedSecrets.IGNORE if kept else self._detected_secrets
            says = {"detected_secrets": default, **says}
            template = self._templates[key] = JobTemplate(name, says, self._schedules)
        return template

    def _build_slots(
        self, name: str, device: Device | None, expanded: Expanded
    ) -> Iterator[ConfiguredSlot]:
        values = expanded.says.get("template_values", {})
        for job, override in expanded.says.get("jobs", {}).items():
            if job not in self._jobs:
                self._report_unknown_job(job, expanded.layers)
                continue
            template = self._template(job, override)
            built = self._build_slot(name, template, values, override, expanded)
            if device is None or built.job is None or template.planned is None:
                continue
            made = self._on_platform(name, built.job, template, expanded)
            if made is None:
                continue
            if (lack := unfit(made, device)) is not None:
                path = origin(self._slot_layers(job, expanded.layers), lack.path)
                self._unfit.setdefault(lack._replace(path=path), []).append(name)
            else:
                schedule, plan = template.planned.of(name, job)
                yield ConfiguredSlot(
                    device=device,
                    job=made,
                    schedule=schedule,
                    plan=plan,
                    priority=template.priority,
                    retries=template.retries,
                    shrink_guard=template.shrink_guard,
                    windows=self._windows.of(device, job),
                )

    def _build_slot(
        self, device: str, template: JobTemplate, values: Plain, override: Plain, of: Expanded
    ) -> Built:
        own = override.get("template_values", {})
        filled = _values(template, values, own)
        if None in filled:
            layers = self._slot_layers(template.name, of.layers)
            for variable, value in zip(template.uses, filled, strict=True):
                if value is None:
                    path = origin(layers, template.uses[variable])
                    self._unset.setdefault(_Unset(path, variable), []).append(device)
            self._values_seen.update(template.values, values, own)
        built = template.build(filled)
        if template.findings or built.findings:
            layers = self._slot_layers(template.name, of.layers)
            self._place([*template.findings, *built.findings], layers)
        return built

    def _on_platform(
        self, device: str, job: Job, template: JobTemplate, of: Expanded
    ) -> Job | None:
        """The job with what the device's platform adds; none where that cannot give it."""
        made = self._platform_jobs.make(
            job, of.says.get("platform"), keep_secrets=template.keep_secrets
        )
        if isinstance(made, NoStandardJob):
            if self._are_spoiled(of.layers):
                return None
            layers = self._slot_layers(template.name, of.layers)
            self._platform_jobs.note(made, origin(layers, ("standard",)), device)
            return None
        return made

    def _slot_layers(self, job: str, device: Layers) -> Layers:
        """What a device says of a job, itself and by its generics, and then the job."""
        said = []
        for layer in device:
            jobs = layer.says.get("jobs")
            if isinstance(jobs, list):
                break
            if jobs and jobs.get(job):
                said.append(Layer((*layer.path, "jobs", job), jobs[job]))
        return (*said, *self._jobs[job].layers)

    def _report_unknown_job(self, job: str, layers: Layers) -> None:
        finding = Finding(
            "config.unknown_job",
            ("jobs", job),
            f"there is no such job, {one_of(self._jobs)}",
            did_you_mean(job, self._jobs),
        )
        for layer in layers:
            jobs = layer.says.get("jobs") or ()
            if job in jobs:
                part: Any = jobs.index(job) if isinstance(jobs, list) else job
                self.findings[finding._replace(path=(*layer.path, "jobs", part))] = None
                return

    def _report_unset(self) -> None:
        for (path, name), devices in self._unset.items():
            finding = Finding(
                "config.unset_variable",
                path,
                f'nothing sets "{name}" on {and_more(devices)}',
                did_you_mean(name, self._values_seen)
                or "set it under template_values of the device, the job or a generic",
            )
            self.findings[finding] = None


def _values(template: JobTemplate, device: Plain, override: Plain) -> tuple[str | None, ...]:
    """The value of each variable of a job on a device: the nearest."""
    if not template.uses:
        return ()
    values = []
    for name in template.uses:
        for layer in (override, device, template.values):
            if name in layer:
                value = layer[name]
                break
        else:
            value = None
        values.append(None if value is None else str(value))
    return tuple(values)
