"""paramiko alone, in threads: takes whatever ends like the prompt for the prompt."""

import paramiko

from bench.peers.harness import COMMANDS, Target, in_threads


def read_to(channel: paramiko.Channel, prompt: bytes) -> int:
    output = bytearray()
    while not output.endswith(prompt):
        data = channel.recv(65536)
        if not data:
            raise EOFError
        output += data
    return len(output)


def session(target: Target) -> int:
    prompt = f"\r\n{target.name}#".encode()
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            target.host,
            target.port,
            target.user,
            target.password,
            allow_agent=False,
            look_for_keys=False,
        )
        channel = client.invoke_shell("dumb")
        read_to(channel, prompt)
        size = 0
        for command in COMMANDS:
            channel.sendall(command)
            size = read_to(channel, prompt)
        return size


if __name__ == "__main__":
    in_threads(session)
