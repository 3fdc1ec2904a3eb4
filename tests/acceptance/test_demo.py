"""What a stranger sees first."""

import asyncio
import re
import sys

REVISION = re.compile(r"^([-+])snmp-server community revision-(\d+) RO")


async def test_the_demonstration_shows_all_of_it_and_ends_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "roundsman", "demo", "--once"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    table = text[: text.index("A command on the worker")]
    assert table.count("succeeded") == 11, text  # all but the one that refuses the password
    assert "authentication" in table
    assert "12 of 12 visited" in table
    assert "count 3" in text
    assert '{"done":false,"error":false,"error_text":""}' in text
    assert '{"done":true,"error":true,"error_text":"signal: terminated"}' in text
    revisions = [REVISION.search(line) for line in text.splitlines()]
    gone, come = [(said[1], int(said[2])) for said in revisions if said]
    # Which revision the first visit found depends on when it came.
    assert (gone[0], come[0]) == ("-", "+")
    assert come[1] > gone[1]
    assert "/api/docs" in text
