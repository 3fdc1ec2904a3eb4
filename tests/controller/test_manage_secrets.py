"""No secret of the configuration is told by any page, or written to the log."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from roundsman import logs
from roundsman.controller.access import token_hash
from tests.controller import multipart
from tests.controller.site import Site, bearer, open_site

MARK: Final = "m4rk3d"
CONFIGURATION: Final = f"""
controller:
  tokens:
    - {{name: ada, role: administrator, hash: "{token_hash("token-of-ada")}"}}
    - {{name: rita, role: reader, hash: "{token_hash("token-of-rita")}"}}
    - {{name: walter, role: worker, hash: "{token_hash("token-of-walter")}"}}
job_generics:
  default:
    schedule: {{duration: 1 hour}}
    template_values: {{enable: {MARK}-1, snmp: {MARK}-2}}
jobs:
  show:
    commands:
      - "enable {{{{enable}}}}"
      - command: "show {{{{what}}}}"
        expect: ["community {{{{snmp}}}}"]
    scrubbers: [{{type: simple, search: {MARK}-3, replace: "{MARK}-4"}}]
    template_values: {{what: {MARK}-5}}
    prompt: {{ends_with: "#"}}
device_generics:
  default:
    credentials: {{user: backup, pass: {MARK}-6}}
    template_values: {{what: {MARK}-7}}
devices:
  edge1: {{jobs: [show]}}
  edge2:
    credentials: {{private_key: "file:key", passphrase: {MARK}-8}}
    jobs: {{show: {{template_values: {{what: {MARK}-9}}}}}}
"""
# Files that are wrong right where the secrets are.
BAD: Final = (
    f"devices: {{edge1: {{credentials: {{user: u, pass: [{MARK}]}}}}}}",
    f"devices: {{edge1: {{credentials: {{user: u, passwd: {MARK}}}}}}}",
    f"devices: {{edge1: {{credentials: {MARK}}}}}",
    f"devices: {{edge1: {{jobs: {{show: {{template_values: {{a: [{MARK}]}}}}}}}}}}",
    f"controller: {{tokens: [{{name: a, role: reader, hash: {MARK}}}]}}",
    f"controller: {{tokens: [{{name: a, role: reader, hash: 'sha256:{MARK}'}}]}}",
    f"controller: {{tokens: {MARK}}}",
    f"devices: {{edge1: {{credentials: {{user: u, pass: '{MARK}",
)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, from debug up."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(level="debug", stream=stream)
    structlog.configure(cache_logger_on_first_use=False)
    yield stream
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


async def fill(site: Site, execution: dict[str, Any]) -> dict[str, str]:
    """Let something happen; what there is then, by the names of path parameters."""
    enrolled = (await site.post("/workers", {"name": "w"}, by="walter")).json()
    answer = await site.client.post(
        "/worker/complete",
        content=multipart.completion(
            "edge1", "show", execution["timestamp"], b"output", failure="no prompt"
        ),
        headers={**multipart.HEADERS, **bearer("walter")},
    )
    return {
        "worker_id": enrolled["worker_id"],
        "run_id": answer.json()["run_id"],
        "device": "edge1",
        "job": "show",
        "process_id": "none",
        "batch_id": "none",
        "version": "0" * 40,
        "digest": "0" * 64,
        "name": "none",
    }


async def read_everything(site: Site, names: dict[str, str]) -> list[str]:
    """The text of every page that can be read, right and wrong."""
    document = (await site.client.get("/api/openapi.json")).json()
    texts: list[str] = []
    for path, item in document["paths"].items():
        # What a worker leases holds its devices' credentials: that is where they are needed.
        if "get" not in item or path == "/worker/next":
            continue
        for filled in (names, {**names, "device": "edge2"}, dict.fromkeys(names, "none")):
            for query in ("", "?limit=1000", "?limit=0"):
                address = path.format(**filled) + query
                answer = await site.client.get(address, headers=bearer("rita"))
                assert answer.status_code < 500, address
                texts.append(f"{address}\n{answer.headers}\n{answer.text}")
    return texts


async def change_everything(site: Site) -> list[str]:
    """The answers to what can be asked for, and to configurations that are bad."""
    answers = [
        await site.post(f"/{thing}/{verb}")
        for thing in ("devices/edge1", "jobs/show", "devices/none")
        for verb in ("pause", "resume")
    ]
    answers.append(await site.post("/devices/edge1/jobs/show/run"))
    for text in (*BAD, CONFIGURATION):
        site.file.write_text(text)
        answers.append(await site.post("/reload"))
    assert answers[-1].status_code == 200
    assert {answer.status_code for answer in answers[-1 - len(BAD) : -1]} == {422}
    return [answer.text for answer in answers]


async def test_no_secret_is_told_or_logged(
    tmp_path: Path, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text(f"{MARK}-key\n")
    async with open_site(tmp_path, CONFIGURATION) as site:
        site.clock.advance(3600)
        leased = await site.client.get("/worker/next", headers=bearer("walter"))
        for name in (1, 2, 3, 4, 6, 7, 8, 9, "key"):
            assert f"{MARK}-{name}" in leased.text  # the worker is told what it needs
        texts = await read_everything(site, await fill(site, leased.json()[0]))
        texts += await change_everything(site)
    logged = log.getvalue() + "".join(capfd.readouterr())
    assert "configuration.in_force" in logged
    assert "configuration.refused" in logged
    for text in (*texts, logged):
        assert MARK not in text
        assert "token-of-" not in text
        assert token_hash("token-of-ada")[-64:] not in text
