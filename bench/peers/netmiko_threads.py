"""netmiko's driver for Cisco IOS, in threads."""

import netmiko

from bench.peers.harness import Target, in_threads


def session(target: Target) -> int:
    with netmiko.ConnectHandler(
        device_type="cisco_ios",
        host=target.host,
        port=target.port,
        username=target.user,
        password=target.password,
    ) as connection:
        # netmiko counts line ends as one byte and leaves out the echo: see the size that is asked.
        return len(connection.send_command("show running-config"))


if __name__ == "__main__":
    in_threads(session)
