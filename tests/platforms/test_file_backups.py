"""The standard backup of platforms whose configuration is a file, from a server as the device's."""

from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from roundsman.platforms import load
from roundsman.platforms.load import Platform
from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Credentials, Device, Ftp, Http, Https, Protocol, Ssh, Tftp
from roundsman.wire.job import Job, JobType, Schedule, Transfer
from tests.platforms.test_samples import SAMPLES, Sample
from tests.worker.sessions.conftest import Bench
from tests.worker.sessions.files.bench import PASSWORD, USER
from tests.worker.sessions.files.test_http import serving
from tests.worker.sessions.files.test_scp import scripted

NAMES = [file.stem for file in SAMPLES if "backup" in load.by_name(file.stem).files]


@pytest.mark.parametrize("name", NAMES)
async def test_a_backup_is_fetched_and_hides_what_it_must(tmp_path: Path, name: str) -> None:
    platform = load.by_name(name)
    file = next(file for file in SAMPLES if file.stem == name)
    sample = msgspec.yaml.decode(file.read_bytes(), type=Sample)
    content = sample.text.encode()

    async def answer(request: web.Request) -> web.Response:
        assert request.path == platform.files["backup"].files[0].name
        return web.Response(body=content)

    match platform.files["backup"].transfer:
        case Transfer.HTTP:
            async with serving(answer) as port:
                result = await _run(tmp_path, platform, http=Http(port=port))
        case Transfer.SCP:
            async with scripted(b"C0600 %d x\n" % len(content), content + b"\0") as ssh:
                result = await _run(tmp_path, platform, ssh=ssh)
        case other:
            pytest.fail(f"serve {other} here")
    assert not [secret for secret in sample.must_hide if secret in result]
    assert not [line for line in sample.must_keep if line not in result]


async def _run(
    folder: Path, platform: Platform, **protocol: Ssh | Http | Https | Ftp | Tftp
) -> str:
    device = Device(
        name="d1",
        host=HOST,
        protocol=msgspec.structs.replace(Protocol(), **protocol),
        credentials=Credentials(user=USER, password=Secret(PASSWORD)),
        platform=platform.session,
    )
    job = Job(
        name="backup",
        type=JobType.FILE,
        schedule=Schedule(fixed=0),
        file_set=platform.files["backup"],
        scrubbers=(*platform.noise, *platform.secrets),
    )
    return (await Bench(folder).run(device, job)).decode()
