"""Whether a worker's policy allows what is asked, and what then is to be executed."""

import os
import pwd
import re
import shutil
import stat
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from roundsman.errors import RoundsmanError
from roundsman.wire.control import MAX_INPUT_BYTES, StartProcess
from roundsman.wire.process import ProcessLimits
from roundsman.worker.policy import CommandPolicy, Policy
from roundsman.worker.runners import process_signatures
from roundsman.worker.runners.beneath import LeavesFolderError, open_beneath
from roundsman.worker.runners.process_copying import ScriptsError
from roundsman.worker.runners.process_scripts import ScriptsCopies, ScriptsCopy
from roundsman.worker.runners.process_signatures import UnsignedError
from roundsman.worker.runners.process_spawn import User

# The search path of commands, and what they find in their environment. Fixed, so that what
# runs depends on the policy alone and not on the shell from which the worker was started.
SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MAX_PATH_BYTES: Final = 4095  # Linux's PATH_MAX less its closing NUL: no longer one names a file
MAX_TEXT_BYTES: Final = 128 * 1024  # of all arguments and variables: Linux's limit for a single one


_NONE_ASKED: Final = ProcessLimits()


class ProcessRefusedError(RoundsmanError):
    """The worker does not start this; `text` is the reason, which the caller is told."""

    code = "process.refused"


class AllowedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What passed the policy, ready to be started."""

    executable: str
    """The file to execute; relative to `folder` where it is a file of the scripts folder."""
    argv: tuple[str, ...]
    """The command as it was asked for, and its arguments."""
    folder: str
    """The working directory."""
    scripts: ScriptsCopy | None = None
    """What `folder` is, where it has scripts."""
    environment: dict[str, str]
    """Variables beside those that the worker sets."""
    secrets: tuple[str, ...] = ()
    """Values that are masked in the output."""
    limits: ProcessLimits = ProcessLimits()
    """Of the policy's and those asked for, the lower ones."""
    user: User | None = None
    """Whom it runs as; none: as the worker."""


def allowed(
    policy: Policy,
    asked: StartProcess,
    copies: ScriptsCopies,
    *,
    tags: Collection[str] = (),
    now: float,
) -> AllowedCommand:
    """What to execute, with scripts out of `copies`, signed if they have to be.

    Raises `ProcessRefusedError` with the reason.
    """
    command = policy.commands.get(asked.command)
    if command is None:
        raise ProcessRefusedError(f"command not allowed: {asked.command}")
    _check_who(command, asked, tags)
    given = {**asked.environment, **{k: v.reveal() for k, v in asked.secret_environment.items()}}
    _check_environment(command, asked.command, given)
    _check_sizes(asked, given)
    arguments = _checked(command, asked.command, asked.arguments)
    path = _path(command, asked, signed=bool(policy.signers))
    scripts = None if command.scripts is None else _copy(command, copies)
    script = command.executable if command.is_script else asked.path
    if scripts is not None and script:
        missing = f"no such {'executable' if command.is_script else 'script'}: {script}"
        with _open_script(scripts, script, missing) as file:
            if policy.signers:
                _check_signature(policy, scripts, script, file.read(), now)
    return AllowedCommand(
        executable=_executable(command),
        argv=(asked.command, *path, *arguments),
        folder="/" if scripts is None else str(scripts.folder),
        scripts=scripts,
        environment=given,
        secrets=tuple(secret.reveal() for secret in asked.secret_environment.values()),
        limits=_lower(command.limits, asked.limits),
        user=None if command.user is None else _user(command.user),
    )


def _lower(one: ProcessLimits, other: ProcessLimits) -> ProcessLimits:
    if other == _NONE_ASKED:
        return one
    lower = {}
    for name in ProcessLimits.__struct_fields__:
        said = [value for limits in (one, other) if (value := getattr(limits, name)) is not None]
        lower[name] = min(said, default=None)
    return ProcessLimits(**lower)


def _user(name: str) -> User:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ProcessRefusedError(f"no such user on this machine: {name}") from None
    return User(
        name=name,
        home=user.pw_dir,
        uid=user.pw_uid,
        gid=user.pw_gid,
        groups=tuple(os.getgrouplist(name, user.pw_gid)),
    )


def _check_who(command: CommandPolicy, asked: StartProcess, tags: Collection[str]) -> None:
    if command.roles and command.roles.isdisjoint(asked.roles):
        wanted = " or ".join(sorted(command.roles))
        raise ProcessRefusedError(f"{asked.command} may be started only by role {wanted}")
    if command.tags and command.tags.isdisjoint(tags):
        wanted = " or ".join(sorted(command.tags))
        raise ProcessRefusedError(f"{asked.command} runs only on workers that serve {wanted}")


def _check_environment(command: CommandPolicy, name: str, given: dict[str, str]) -> None:
    for variable, value in given.items():
        if variable not in command.environment:
            raise ProcessRefusedError(f"{name} does not take the variable {variable}")
        if "\0" in value:
            raise ProcessRefusedError(f"variable {variable} contains a NUL byte")


def _check_sizes(asked: StartProcess, given: dict[str, str]) -> None:
    texts = [*asked.arguments, *given, *given.values()]
    if sum(len(os.fsencode(text)) for text in texts) > MAX_TEXT_BYTES:
        raise ProcessRefusedError(
            f"arguments and variables are longer than {MAX_TEXT_BYTES} bytes together"
        )
    if len(asked.standard_input) > MAX_INPUT_BYTES:
        raise ProcessRefusedError(f"standard input is longer than {MAX_INPUT_BYTES} bytes")


def _checked(command: CommandPolicy, name: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    for argument in arguments:
        if "\0" in argument:
            raise ProcessRefusedError("an argument contains a NUL byte")
        if not any(re.fullmatch(pattern, argument) for pattern in command.arguments):
            raise ProcessRefusedError(f"{name} does not take the argument {argument}")
    return arguments


def _executable(command: CommandPolicy) -> str:
    wanted = command.executable
    if command.is_script:
        return wanted
    found = shutil.which(wanted, path=SEARCH_PATH)
    if found is None:
        raise ProcessRefusedError(f"no such executable: {wanted}")
    return found


def _path(command: CommandPolicy, asked: StartProcess, *, signed: bool) -> tuple[str, ...]:
    """The first argument: a script, or a plain argument."""
    takes_script = command.scripts is not None and not command.is_script
    if asked.path is None:
        if takes_script:
            # Without one, an interpreter would run what it is given on standard input.
            raise ProcessRefusedError(f"{asked.command} is given a script: path is needed")
        return ()
    _check_path(asked.path)
    if not asked.path and takes_script and signed:
        # `python3` given an empty name would run `__main__.py` of its folder.
        raise ProcessRefusedError(f"{asked.command} is given a signed script: path is empty")
    if asked.path and not takes_script:
        _checked(command, asked.command, (asked.path,))
    return (asked.path,)  # always passed, also when empty


def _copy(command: CommandPolicy, copies: ScriptsCopies) -> ScriptsCopy:
    folder = command.scripts or Path("/")
    try:
        copy = copies.copy_of(folder)
        if command.user is not None:
            copies.let_pass()
    except ScriptsError as error:
        raise ProcessRefusedError(error.text) from None
    except OSError as error:
        text = f"could not open {folder}: {error.strerror}"
        raise ProcessRefusedError(text) from None
    return copy


def _check_signature(
    policy: Policy, scripts: ScriptsCopy, script: str, content: bytes, now: float
) -> None:
    missing = f"{script} is not signed: there is no {script}.sig"
    try:
        with _open_script(scripts, f"{script}.sig", missing) as signature:
            process_signatures.check(content, signature.read(), policy.signers, now)
    except UnsignedError as error:
        raise ProcessRefusedError(f"{script} does not run: its signature {error}") from None


def _open_script(scripts: ScriptsCopy, path: str, missing: str) -> BinaryIO:
    """A file of the folder, wherever links within it lead."""
    folder = os.open(scripts.folder, os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = open_beneath(folder, path)
    except LeavesFolderError:
        raise ProcessRefusedError(f"path leaves the scripts folder: {path}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ProcessRefusedError(missing) from None
    except OSError as error:
        raise ProcessRefusedError(f"could not open {path}: {error.strerror}") from None
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ProcessRefusedError(f"not a file: {path}")
    return os.fdopen(descriptor, "rb")


def _check_path(path: str) -> None:
    if "\0" in path:
        raise ProcessRefusedError("path contains a NUL byte")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ProcessRefusedError(f"path is longer than {MAX_PATH_BYTES} bytes")
    if path.startswith("-"):
        # `python3` given "-cimport os" would run what is in no folder at all.
        raise ProcessRefusedError("path would be taken for an option: it starts with a dash")
