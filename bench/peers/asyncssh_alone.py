"""asyncssh without anything around it: takes whatever ends like the prompt for the prompt."""

import asyncssh

from bench.peers.harness import COMMANDS, Target, at_once


async def session(target: Target) -> int:
    prompt = f"\r\n{target.name}#".encode()
    async with asyncssh.connect(
        target.host,
        target.port,
        username=target.user,
        password=target.password,
        known_hosts=None,
        client_keys=None,
        agent_path=None,
        config=None,
        kex_algs=["curve25519-sha256"],
        encryption_algs=["aes128-gcm@openssh.com"],
    ) as connection:
        stdin, stdout, _ = await connection.open_session(term_type="dumb", encoding=None)
        output = await stdout.readuntil(prompt)
        for command in COMMANDS:
            stdin.write(command)
            output = await stdout.readuntil(prompt)
        return len(output)


if __name__ == "__main__":
    at_once(session)
