"""OpenSSH's own client, a process for each session."""

import asyncio
import os
import tempfile
from pathlib import Path

from bench.peers.harness import COMMANDS, THREADS, Target, at_once

OPTIONS = (
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "PubkeyAuthentication=no",
)


async def session(target: Target) -> int:
    prompt = f"\r\n{target.name}#".encode()
    process = await asyncio.create_subprocess_exec(
        "ssh", "-F", "none", "-tt", "-p", str(target.port),
        *(part for option in OPTIONS for part in ("-o", option)),
        f"{target.user}@{target.host}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={
            **os.environ,
            "SSH_ASKPASS": str(askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "ROUTER_PASSWORD": target.password,
        },
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    output = await process.stdout.readuntil(prompt)
    for command in COMMANDS:
        process.stdin.write(command)
        output = await process.stdout.readuntil(prompt)
    process.stdin.write(b"exit\n")
    await process.communicate()
    return len(output)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        askpass = Path(folder) / "askpass"
        askpass.write_text("#!/bin/sh\nprintf '%s\\n' \"$ROUTER_PASSWORD\"\n")
        askpass.chmod(0o700)
        at_once(session, most=THREADS)
