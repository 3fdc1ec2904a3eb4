"""ssh2-python, which is libssh2 in C, in threads: the floor for the CPU of a session."""

import socket

from ssh2.session import Session

from bench.peers.harness import COMMANDS, Target, in_threads


def session(target: Target) -> int:
    prompt = f"\r\n{target.name}#".encode()
    with socket.create_connection((target.host, target.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Session()
        client.set_timeout(5000)  # now and then it waits for what has come already
        client.handshake(connection)
        client.userauth_password(target.user, target.password)
        channel = client.open_session()
        channel.pty("dumb")
        channel.shell()
        output = b""
        for command in (b"", *COMMANDS):
            if command:
                channel.write(command)
            output = b""
            while not output.endswith(prompt):
                size, data = channel.read(65536)
                if size <= 0:
                    raise EOFError(size)
                output += data
        channel.close()
        client.disconnect()
        return len(output)


if __name__ == "__main__":
    in_threads(session)
