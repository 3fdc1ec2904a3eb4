"""Signatures as stock ssh-keygen makes them."""

import shutil
import subprocess
import uuid
from pathlib import Path

import msgspec
import pytest

from roundsman.clock import SystemClock
from roundsman.wire.control import ProcessChanged, StartProcess
from roundsman.wire.process import ProcessState
from roundsman.worker.policy import CommandPolicy, Policy
from roundsman.worker.runners.process import ProcessRunner
from roundsman.worker.runners.process_policy import AllowedCommand, ProcessRefusedError, allowed
from roundsman.worker.runners.process_scripts import ScriptsCopies
from roundsman.worker.signers import Signer, read_signer
from tests.policies import policy

if shutil.which("ssh-keygen") is None:
    pytest.skip("ssh-keygen not installed (see scripts/system-packages)", allow_module_level=True)


def keygen(*arguments: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, capture_output=True)


class Signing:
    """Keys in a folder, and a folder of scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / "scripts"
        self.scripts.mkdir()
        self.script = self.scripts / "count.sh"
        self.script.write_text("echo 1\n")

    def key(self, name: str, kind: str = "ed25519", *more: str) -> str:
        """Make a key; its line of signers."""
        keygen("-t", kind, *more, "-N", "", "-C", "", "-f", self.folder / name)
        return f"{name}@example " + (self.folder / f"{name}.pub").read_text().strip()

    def sign(self, name: str, namespace: str = "roundsman", *more: str) -> None:
        Path(f"{self.script}.sig").unlink(missing_ok=True)
        keygen("-Y", "sign", "-f", self.folder / name, "-n", namespace, *more, self.script)

    def run(self, *lines: str, command: str = "sh", path: str = "count.sh") -> AllowedCommand:
        commands = {
            "sh": CommandPolicy(executable="sh", scripts=self.scripts),
            "./count.sh": CommandPolicy(executable="./count.sh", scripts=self.scripts),
            "true": CommandPolicy(executable="true"),
        }
        signed = Policy(commands=commands, signers=tuple(map(read_signer, lines)))
        asked = StartProcess(process_id="1", command=command, path=path)
        copies = ScriptsCopies(self.folder, SystemClock())
        return allowed(signed, asked, copies, now=SystemClock().now())

    def refusal(self, *lines: str, command: str = "sh", path: str = "count.sh") -> str:
        with pytest.raises(ProcessRefusedError) as refused:
            self.run(*lines, command=command, path=path)
        return refused.value.text


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    return Signing(tmp_path)


@pytest.mark.parametrize(
    ("kind", "more"), [("ed25519", ()), ("ecdsa", ("-b", "384")), ("rsa", ("-b", "2048"))]
)
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_is_signed_runs(
    signing: Signing, kind: str, more: tuple[str, ...], hash_name: str
) -> None:
    line = signing.key("ada", kind, *more)
    signing.sign("ada", "roundsman", "-O", f"hashalg={hash_name}")
    assert signing.run(line).argv == ("sh", "count.sh")
    assert signing.run(line, command="./count.sh", path="").executable == "./count.sh"
    assert signing.run(line, command="true", path="").executable.endswith("/true")


def test_what_is_not_does_not(signing: Signing) -> None:
    ada, bob = signing.key("ada"), signing.key("bob")
    assert signing.refusal(ada) == "count.sh is not signed: there is no count.sh.sig"
    assert signing.refusal(ada, command="./count.sh", path="").startswith(
        "./count.sh is not signed"
    )
    signing.sign("bob")
    why = "count.sh does not run: its signature "
    assert signing.refusal(ada) == f"{why}is not by a key that the policy lists"
    assert signing.run(ada, bob).argv == ("sh", "count.sh")
    signing.sign("ada", "file")
    assert signing.refusal(ada) == f"{why}is for the namespace 'file', expected 'roundsman'"
    signing.sign("ada")
    signing.script.write_text("echo 2\n")
    assert signing.refusal(ada) == f"{why}does not fit its content"
    signature = signing.scripts / "count.sh.sig"
    text = signature.read_text()
    for damaged in ("", "x", text.replace("SSH", "PGP"), text[:100] + text[120:]):
        signature.write_text(damaged)
        assert signing.refusal(ada).startswith(f"{why}is ")
    assert signing.refusal(ada, path="") == "sh is given a signed script: path is empty"


def test_a_signature_does_not_hold_for_another_script(signing: Signing) -> None:
    ada = signing.key("ada")
    signing.sign("ada")
    (signing.scripts / "other.sh").write_text("echo other\n")
    shutil.copy(signing.scripts / "count.sh.sig", signing.scripts / "other.sh.sig")
    assert "does not fit its content" in signing.refusal(ada, path="other.sh")


def test_a_key_counts_for_what_and_when_its_line_says(signing: Signing) -> None:
    ada = signing.key("ada")
    signing.sign("ada")
    for options, counts in {
        'namespaces="roundsman,file"': True,
        'namespaces="rounds*"': True,
        'namespaces="file"': False,
        'valid-after="20200101Z",valid-before="21000101"': True,
        'valid-before="20200101"': False,
        'namespaces="roundsman",valid-after="209901010000"': False,
    }.items():
        line = ada.replace(" ", f" {options} ", 1)
        if counts:
            assert signing.run(line).argv == ("sh", "count.sh")
        else:
            assert "ada@example, whose key does not count" in signing.refusal(line)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ada@example", "expected PRINCIPALS"),
        ("ada@example ssh-ed25519 %%%", "not base64"),
        ("ada@example ssh-ed25519 AAAAB3NzaC1yc2E=", "its key is not one of ssh-ed25519"),
        ("ada@example cert-authority ssh-rsa AAAAB3NzaC1yc2E=", "cert-authority is not known"),
        ('a valid-after="soon" ssh-rsa AAAAB3NzaC1yc2E=', "not a time"),
        ("a b=c ssh-rsa AAAAB3NzaC1yc2E=", "cannot be read"),
    ],
)
def test_lines_that_are_none(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_signer(line)


def test_names_may_have_blanks() -> None:
    line = '"ada lovelace,ada" ssh-rsa AAAAB3NzaC1yc2E= a comment'
    signer = read_signer(line)
    assert (signer.name, signer.may_sign("anything", 0)) == ("ada lovelace,ada", True)
    assert isinstance(signer, Signer)


async def test_a_keeper_holds_to_it(signing: Signing) -> None:
    """From the policy through the keeper to what runs."""
    ada = signing.key("ada")
    allowing = policy(signing.scripts, "sh")
    runner = ProcessRunner(
        msgspec.structs.replace(allowing, signers=(read_signer(ada),)),
        folder=signing.folder / "state" / "processes",
        clock=SystemClock(),
    )
    await runner.open()

    async def start() -> ProcessChanged:
        asked = StartProcess(process_id=str(uuid.uuid4()), command="sh", path="count.sh")
        return await runner.start(asked)

    refused = await start()
    assert refused.error == "count.sh is not signed: there is no count.sh.sig"
    signing.sign("ada")
    started = await start()
    assert started.state is ProcessState.RUNNING
    read = runner.read(started.process_id, follow=True)
    assert [chunk.data async for chunks in read for chunk in chunks] == [b"1\n"]
    await runner.close()
    await runner.detach()
