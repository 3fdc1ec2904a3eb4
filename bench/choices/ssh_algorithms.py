"""What a login costs by algorithm, and what 20 MB cost by cipher: CPU of both sides together.

`python -m bench.choices.ssh_algorithms`; for docs/adr/0009-sessions.md.
"""

import asyncio
import time
from typing import Any

import asyncssh

LOGINS = 60
BYTES = 20 << 20
HOST_KEYS = {
    "ssh-ed25519": asyncssh.generate_private_key("ssh-ed25519"),
    "ecdsa-sha2-nistp256": asyncssh.generate_private_key("ecdsa-sha2-nistp256"),
    "rsa-sha2-256": asyncssh.generate_private_key("ssh-rsa", key_size=2048),
}
KEY_EXCHANGES = (
    "curve25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp521",
    "mlkem768x25519-sha256",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
)
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
    "chacha20-poly1305@openssh.com",
)


class Open(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


async def serve(stdin: Any, stdout: Any, _: Any) -> None:
    for _number in range(BYTES >> 16):
        stdout.write(b"x" * (1 << 16))
        await stdout.drain()
    stdout.close()


async def measure(host_key: str, **algorithms: Any) -> tuple[float, float]:
    """CPU milliseconds of a login, and of 20 MB."""
    each = bulk = 0.0
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Open,
        server_host_keys=[HOST_KEYS[host_key]],
        session_factory=serve,
        encoding=None,
    )

    async def login() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            "127.0.0.1",
            server.get_port(),
            username="x",
            known_hosts=None,
            config=None,
            client_keys=None,
            agent_path=None,
            server_host_key_algs=[host_key],
            **algorithms,
        )

    async with server:
        (await login()).close()
        began = time.process_time()
        for _ in range(LOGINS):
            (await login()).close()
        each = (time.process_time() - began) / LOGINS
        async with await login() as connection:
            began = time.process_time()
            _, stdout, _ = await connection.open_session(encoding=None)
            while await stdout.read(1 << 16):
                pass
            bulk = time.process_time() - began
    return each * 1000, bulk * 1000


async def main() -> None:
    print("CPU of both sides, ms")
    for key_exchange in KEY_EXCHANGES:
        each, _ = await measure("ssh-ed25519", kex_algs=[key_exchange])
        print(f"login, {key_exchange}, ssh-ed25519: {each:.1f}")
    for host_key in HOST_KEYS:
        each, _ = await measure(host_key, kex_algs=["curve25519-sha256"])
        print(f"login, curve25519-sha256, {host_key}: {each:.1f}")
    for cipher in CIPHERS:
        _, bulk = await measure(
            "ssh-ed25519",
            kex_algs=["curve25519-sha256"],
            encryption_algs=[cipher],
            mac_algs=["hmac-sha2-256-etm@openssh.com"],
        )
        print(f"20 MB, {cipher}: {bulk:.0f}")


if __name__ == "__main__":
    asyncio.run(main())
