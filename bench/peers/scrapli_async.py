"""scrapli's driver for Cisco IOS XE, over libssh2, in one event loop."""

from scrapli import AuthOptions, Cli
from scrapli.transport import Ssh2Options

from bench.peers.harness import THREADS, Target, at_once


async def session(target: Target) -> int:
    async with Cli(
        target.host,
        port=target.port,
        definition_file_or_name="cisco_iosxe",
        auth_options=AuthOptions(username=target.user, password=target.password),
        transport_options=Ssh2Options(),
    ) as connection:
        result = await connection.send_input_async("show running-config")
        return len(result.result)


if __name__ == "__main__":
    at_once(session, most=THREADS)
