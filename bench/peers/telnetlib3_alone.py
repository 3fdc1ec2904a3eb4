"""telnetlib3 without anything around it: takes whatever ends like the prompt for the prompt."""

from typing import Any

import telnetlib3

from bench.peers.harness import COMMANDS, Target, at_once


async def session(target: Target) -> int:
    prompt = f"\r\n{target.name}#".encode()
    # Without an encoding both are of bytes, which their types do not say.
    streams: Any = await telnetlib3.open_connection(
        target.host,
        target.telnet_port,
        client_factory=telnetlib3.TelnetClient,
        encoding=False,
        term="dumb",
        connect_minwait=0,
        connect_maxwait=0,
        compression=False,
    )
    reader, writer = streams
    output = b""
    for text, until in (
        (b"", b"Username: "),
        (target.user.encode() + b"\r\n", b"Password: "),
        (target.password.encode() + b"\r\n", prompt),
        *((command.replace(b"\n", b"\r\n"), prompt) for command in COMMANDS),
    ):
        writer.write(text)
        output = b""
        while not output.endswith(until):
            data = await reader.read(1 << 17)
            if not data:
                raise EOFError
            output += data
    writer.close()
    return len(output)


if __name__ == "__main__":
    at_once(session)
