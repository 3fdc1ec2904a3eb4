"""Remotes in the configuration: which addresses git may be given, and secrets by reference."""

import json
from pathlib import Path
from typing import Any

import pytest

from roundsman.config.load import load
from roundsman.config.records import Acknowledge, RemoteSettings
from roundsman.documents.problems import ConfigurationError
from roundsman.secret import Secret

SSH = {"private_key": "env:KEY", "host_keys": ["ssh-ed25519 AAAA"]}
ENVIRON = {"TOKEN": "t0ken", "KEY": "a key", "LINES": "a\nb"}


def read(folder: Path, remote: Any, name: str = "r", **more: Any) -> dict[str, RemoteSettings]:
    file = folder / "roundsman.json"

    archive = {"remotes": {name: remote}, **more}
    file.write_text(json.dumps({"controller": {"archive": archive}}))
    return load(file, environ=ENVIRON).controller.archive.remotes


def problems(folder: Path, remote: Any, name: str = "r") -> str:
    with pytest.raises(ConfigurationError) as raised:
        read(folder, remote, name)
    return str(raised.value)


def test_secrets_are_fetched_and_masked(tmp_path: Path) -> None:
    url = "https://git.example.org:8443/a/b.git"
    said = read(tmp_path, {"url": url, "user": "ada", "pass": "env:TOKEN"})["r"]
    assert (said.url, said.user, said.password) == (url, "ada", Secret("t0ken"))
    assert "t0ken" not in repr(said)


@pytest.mark.parametrize(
    "url", ["ssh://git@h/x", "ssh://h:22/~git/x", "ssh://[2001:db8::1]/x", "ssh://git@h:2222/x.git"]
)
def test_addresses_of_ssh(tmp_path: Path, url: str) -> None:
    said = read(tmp_path, {"url": url, **SSH})["r"]
    assert (said.url, said.private_key) == (url, Secret("a key"))


@pytest.mark.parametrize("url", ["/srv/x.git", "file:///srv/x.git", "http://h/x"])
def test_addresses_without_credentials(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, {"url": url})["r"].url == url


def test_a_folder_is_taken_from_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = str(tmp_path / "elsewhere.git")
    assert read(tmp_path, {"url": "elsewhere.git"})["r"].url == expected
    monkeypatch.chdir(tmp_path)  # and the file was named without a folder
    assert read(Path(), {"url": "elsewhere.git"})["r"].url == expected


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% x",
        "git://h/x",
        "ftp://h/x",
        "https://ada:secret@h/x",
        "https://ada@h/x",
        "https://-h/x",
        "https://h",
        "https://h/x?y",
        "https://h:0/x",
        "https://h:x/x",
        "HTTPS://h/x",
        "ssh://-oProxyCommand=x/x",
        "ssh://-l@h/x",
        "ssh://git:secret@h/x",
        "ssh://h/x\nhost",
        "file://host/x",
        "git@h:x.git",
        "http::https://h/x",
    ],
)
def test_addresses_that_git_must_not_be_given(tmp_path: Path, url: str) -> None:
    remote = {"url": url, **(SSH if "ssh:" in url else {})}
    said = problems(tmp_path, remote)
    assert "config.url" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ({"url": "ssh://h/x"}, "private_key is needed for SSH"),
        ({"url": "/x", "user": "a", "pass": "b"}, "user is for http and https"),
        ({"url": "https://h/x", "user": "ada"}, "user and pass go together"),
        ({"url": "https://h/x", "user": "ada", "pass": "env:NONE"}, "NONE is not set"),
        ({"url": "https://h/x", "user": "ada", "pass": "env:LINES"}, "one line of printable"),
        ({"url": "https://h/x", **SSH}, "private_key is for ssh"),
        ({"url": "ssh://h/x", **SSH, "host_keys": ["a b c"]}, "expected a kind of key"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, remote: Any, expected: str) -> None:
    assert expected in problems(tmp_path, remote)


@pytest.mark.parametrize("name", ["-x", "a/b", "..", "a b", "x" * 64])
def test_names(tmp_path: Path, name: str) -> None:
    assert "config.name" in problems(tmp_path, {"url": "/x"}, name)


def test_pushed_needs_a_remote(tmp_path: Path) -> None:
    file = tmp_path / "roundsman.yaml"
    file.write_text("controller: {archive: {acknowledge: pushed}}\n")
    with pytest.raises(ConfigurationError, match="pushed needs a remote"):
        load(file, environ={})
    read(tmp_path, {"url": "/x"}, acknowledge=Acknowledge.PUSHED)
