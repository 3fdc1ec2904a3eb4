"""How git is let at a remote: one protocol, credentials that no command line shows, checked hosts.

For HTTP the credentials are in the environment of the git program, and a helper reads them there.
For SSH the key is a file of mode 0600 in the state folder, and only the configured host keys are
believed. No configuration of the user or the machine is read for either.
"""

import base64
import os
import shlex
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from roundsman.archive.files import NewFile
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.config.records import RemoteSettings
from roundsman.secret import MASK

_USER: Final = "ROUNDSMAN_REMOTE_USER"
_PASSWORD: Final = "ROUNDSMAN_REMOTE_PASSWORD"  # noqa: S105 - the name of a variable
_HELPER: Final = (
    "!answer() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' "
    f'"${_USER}" "${_PASSWORD}"; }}; answer'
)
_SAID: Final = 500
_SSH: Final = (
    ("BatchMode", "yes"),
    ("StrictHostKeyChecking", "yes"),
    ("UpdateHostKeys", "no"),
    ("GlobalKnownHostsFile", os.devnull),
    ("IdentitiesOnly", "yes"),
    ("IdentityAgent", "none"),
    ("PreferredAuthentications", "publickey"),
    ("ClearAllForwardings", "yes"),
    ("ForwardAgent", "no"),
    ("PermitLocalCommand", "no"),
    ("ConnectTimeout", "30"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "4"),
)


class RemoteError(ArchiveUnavailableError):
    """A remote did not take or give what it was asked to; it is asked again later."""

    code = "archive.remote"


class Access:
    """What git is told to reach one remote, and what it may do there."""

    def __init__(self, settings: RemoteSettings, folder: Path) -> None:
        """`folder` is for the files that SSH needs; made when they are."""
        self._settings = settings
        self._folder = folder
        self._address = urlsplit(settings.url)
        self.url = settings.url
        self._kind = self._address.scheme or "file"
        self.is_folder = self._kind == "file"
        """Whether it is on a file system of this machine."""

        self.is_http = self._kind in ("http", "https")
        """Whether it is a server of HTTP."""

        self.is_ssh = self._kind == "ssh"
        """Whether it is a server of SSH."""

    @property
    def authorization(self) -> str | None:
        """The header by which a request over HTTP shows the credentials, if there are any."""
        if self._settings.password is None:
            return None
        pair = f"{self._settings.user or ''}:{self._settings.password.reveal()}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    @property
    def path(self) -> Path:
        """The folder that it is, where it is one."""
        return Path(self._address.path)

    def options(self) -> list[str]:
        """Options of git itself, before the command."""
        settings = {
            "credential.helper": "",  # forget those of the repository's own configuration
            "http.followRedirects": "false",
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": "60",
            "fetch.fsckObjects": "true",
            "fetch.unpackLimit": "1",
            "fetch.recurseSubmodules": "false",
            "push.recurseSubmodules": "no",
            "push.followTags": "false",
            "push.gpgSign": "false",
            "maintenance.auto": "false",
            "gc.auto": "0",
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        if self._settings.password is not None:
            options += ["-c", f"credential.helper={_HELPER}"]
        return options

    def environment(self) -> dict[str, str]:
        """What git sees of the world beside what it always does."""
        environment = {"GIT_ALLOW_PROTOCOL": self._kind, "HOME": os.devnull}
        if self._settings.password is not None:
            environment[_USER] = self._settings.user or ""
            environment[_PASSWORD] = self._settings.password.reveal()
        if self.is_ssh:
            environment["GIT_SSH_COMMAND"] = shlex.join(self._ssh())
            environment["GIT_SSH_VARIANT"] = "ssh"
        return environment

    def prepare(self) -> None:
        """Make the files that SSH needs, for their owner only. Raises `OSError`."""
        if not self.is_ssh or self._settings.private_key is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self._settings.private_key.reveal().strip() + "\n"
        port = self._address.port or 22
        host = self._address.hostname or ""
        name = host if port == 22 else f"[{host}]:{port}"
        known = "".join(f"{name} {host_key}\n" for host_key in self._settings.host_keys)
        for path, text in ((self._key, key), (self._known_hosts, known)):
            fresh = path.with_name(path.name + ".new")
            fresh.unlink(missing_ok=True)
            file = NewFile(fresh, 0o600)
            try:
                file.write(text.encode())
            finally:
                file.close()
            fresh.rename(path)

    def forget(self) -> None:
        """Remove the files that SSH needed. Raises `OSError`."""
        for path in (self._key, self._known_hosts):
            path.unlink(missing_ok=True)

    def scrubbed(self, said: bytes) -> str:
        """What git said, as one line that may be shown."""
        lines = said.decode(errors="replace").splitlines()
        text = "\n".join(line for line in lines if line.strip("@ "))  # a frame that SSH draws
        for secret in (self._settings.password, self._settings.private_key):
            if secret:
                text = text.replace(secret.reveal(), MASK)
        line = " ".join(text.split())
        return "".join(letter if letter.isprintable() else "?" for letter in line)[:_SAID]

    @property
    def _key(self) -> Path:
        return self._folder / "key"

    @property
    def _known_hosts(self) -> Path:
        return self._folder / "known_hosts"

    def ssh(self, command: str, *arguments: str) -> list[str]:
        """The command line that has a server of SSH run a command on the repository.

        Its path is the first argument, as git gives it.
        """
        path = unquote(self._address.path)
        path = path[1:] if path.startswith("/~") else path
        host, user = self._address.hostname or "", self._address.username
        port = [] if self._address.port is None else ["-p", str(self._address.port)]
        login = [] if user is None else ["-l", user]
        asked = shlex.join([command, path, *arguments])
        return [*self._ssh(), *port, *login, "--", host, asked]

    def _ssh(self) -> list[str]:
        files = (("IdentityFile", self._key), ("UserKnownHostsFile", self._known_hosts))
        options = [
            *_SSH,
            *((name, '"' + str(path).replace("%", "%%") + '"') for name, path in files),
        ]
        words = [text for name, value in options for text in ("-o", f"{name}={value}")]
        return ["ssh", "-F", os.devnull, *words]
