"""A device named on the command line: options, and the execution that they make."""

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

if TYPE_CHECKING:
    from roundsman.platforms.load import Platform
    from roundsman.secret import Secret
    from roundsman.wire.device import Device
    from roundsman.wire.execution import Execution
    from roundsman.wire.job import Command, DetectedSecrets, Scrubber

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option("--platform", help="Name of a platform, or path of a platform file."),
    click.option("--user", help="Login name; your own unless set."),
    click.option(
        "--password",
        help="Password by reference: env:NAME or file:PATH. Asked for where it is needed.",
    ),
    click.option("--enable", help="Password of the privileged mode, by reference."),
    click.option(
        "--private-key", help="Private key, by reference, such as file:/home/me/.ssh/id_ed25519."
    ),
    click.option("--port", type=click.IntRange(1, 65535), help="TCP port; the protocol's own."),
    click.option("--telnet", is_flag=True, help="Speak Telnet instead of SSH."),
    click.option(
        "--legacy-algorithms", is_flag=True, help="Offer SSH's old key exchanges and signatures."
    ),
    click.option(
        "--command",
        "commands",
        multiple=True,
        help="Run this; may be repeated. Unless set, the platform's standard job backup.",
    ),
    click.option(
        "--timeout", type=click.IntRange(1), default=60, show_default=True, help="Per command, s."
    ),
    click.option(
        "--known-hosts",
        type=click.Path(path_type=Path),
        help="File of pinned host keys; one of your own account unless set.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the options say."""

    host: str | None
    platform: str | None
    user: str | None
    password: str | None
    enable: str | None
    private_key: str | None
    port: int | None
    telnet: bool
    legacy_algorithms: bool
    commands: tuple[str, ...]
    timeout: int
    known_hosts: Path | None

    def find_platform(self) -> "Platform | None":
        """The platform that was named. Raises what is wrong with it."""
        from roundsman.platforms import load

        return load.find(self.platform, Path()) if self.platform is not None else None

    def execution(
        self,
        platform: "Platform | None",
        scrubbers: "tuple[Scrubber, ...]",
        detected_secrets: "DetectedSecrets",
    ) -> "Execution":
        """What is to be done now; asks for the password if need be."""
        from roundsman.wire.execution import Execution
        from roundsman.wire.job import CommandSet, Job, Schedule

        job = Job(
            name="session",
            schedule=Schedule(fixed=0),
            command_set=CommandSet(commands=self._commands(platform)),
            scrubbers=scrubbers,
            detected_secrets=detected_secrets,
            command_timeout=self.timeout,
        )
        return Execution(device=self._device(platform), job=job, timestamp=0)

    def _commands(self, platform: "Platform | None") -> "tuple[Command, ...]":
        from roundsman.wire.job import Command

        standard = platform.standard if platform is not None else {}
        if not self.commands:
            if "backup" not in standard:
                raise click.UsageError("give --command: no platform says what a backup is")
            return tuple(standard["backup"])
        known = {command.command: command for job in standard.values() for command in job}
        return tuple(known.get(line, Command(command=line)) for line in self.commands)

    def _device(self, platform: "Platform | None") -> "Device":
        from roundsman.wire.device import (
            Credentials,
            Device,
            Protocol,
            ProtocolType,
            Ssh,
            Telnet,
        )

        host = self.host or ""
        protocol = Protocol(
            type=ProtocolType.TELNET if self.telnet else ProtocolType.SSH,
            ssh=Ssh(port=self.port or 22, legacy_algorithms=self.legacy_algorithms),
            telnet=Telnet(port=self.port or 23),
        )
        user = self.user or getpass.getuser()
        return Device(
            name=host,
            host=host,
            protocol=protocol,
            credentials=Credentials(
                user=user,
                password=self._password(user),
                private_key=_secret("--private-key", self.private_key),
                enable=_secret("--enable", self.enable),
            ),
            platform=platform.session if platform is not None else None,
        )

    def _password(self, user: str) -> "Secret | None":
        from roundsman.secret import Secret

        if self.password is not None or self.private_key is not None:
            return _secret("--password", self.password)
        asked = click.prompt(
            f"Password of {user} on {self.host}", hide_input=True, default="", err=True,
            show_default=False,
        )  # fmt: skip
        return Secret(asked) if asked else None


def _secret(name: str, reference: str | None) -> "Secret | None":
    from roundsman.cli.attempt import secret_by_reference

    return None if reference is None else secret_by_reference(name, reference)


def target_options(*, host_needed: bool) -> Callable[[_F], _F]:
    """Gives a command the argument HOST and all options; it takes them as `target`."""

    def decorate(function: _F) -> _F:
        def command(**given: Any) -> Any:
            own = {name: given.pop(name) for name in Target.__dataclass_fields__}
            return function(target=Target(**own), **given)

        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]  # where click keeps the options of decorators
        decorated: Any = command
        for option in reversed(_OPTIONS):
            decorated = option(decorated)
        return cast("_F", click.argument("host", required=host_needed)(decorated))

    return decorate
