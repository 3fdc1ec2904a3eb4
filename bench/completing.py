"""Clients of `/worker/complete`, as cheap as they can be made: a process of its own.

Run as `python -m bench.completing URL CLIENTS SECONDS`; prints what came of it as JSON. One thread,
plain sockets kept open, each with one call at a time; what each sends differs from all before by a
line. What this process needs of the CPU is taken from what it measures, so it says how much.
"""

import json
import random
import re
import resource
import select
import socket
import statistics
import sys
import time
from collections import deque
from typing import Final
from urllib.parse import urlsplit

import msgspec

RESULT_BYTES: Final = 10_000
PER_CALL: Final = 500
_BOUNDARY: Final = "a3f1c7d25e"
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class _Named(msgspec.Struct):
    name: str


class _Execution(msgspec.Struct):
    device: _Named
    job: _Named
    timestamp: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    kept: int
    """Answers 200 within the time."""
    seconds: float
    cpu_seconds: float
    """Of this process."""
    median: float
    """Seconds from sending to the answer."""
    p99: float
    slowest_second: int
    """Kept in the second in which the fewest were."""


class Configurations:
    """Configurations of 10 KB as devices have them, each different from all before."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        lines = [
            f"interface Gi0/{number}\n description link-{self._random.getrandbits(32):x}\n"
            f" ip address 10.{self._random.randrange(256)}.{self._random.randrange(256)}.1/24\n"
            for number in range(300)
        ]
        self._text = "".join(lines)[: RESULT_BYTES - 67].ljust(RESULT_BYTES - 67).encode()

    def content(self) -> bytes:
        """The next one."""
        cut = self._random.randrange(len(self._text))
        new = b"! %064x\n" % self._random.getrandbits(256)
        return self._text[:cut] + new + self._text[cut:]


class _Client:
    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def answer(self) -> tuple[bytes, bytes]:
        """Head and body of the next answer."""
        data = self.socket.recv(1 << 18)
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        while length is not None and len(body) < int(length[1]):
            body += self._more()
        return head, body

    def _more(self) -> bytes:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the controller closed the connection")
        return data


class Load:
    """Leases, and completes what was leased."""

    def __init__(self, url: str, clients: int) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._host = address.netloc
        where = (address.hostname, address.port)
        self._leasing = _Client(where)
        self._clients = {client.socket.fileno(): client for client in self._connect(where, clients)}
        self._stock: deque[_Execution] = deque()
        self._executions = msgspec.json.Decoder(list[_Execution])
        self._configurations = Configurations()

    def _connect(self, where: tuple[str, int], clients: int) -> list[_Client]:
        return [_Client(where) for _ in range(clients)]

    def run(self, seconds: float) -> Measured:
        """Keep every client busy for so long."""
        poll = select.epoll()
        for number, client in self._clients.items():
            poll.register(number, select.EPOLLIN)
            client.send(self._request())
        times: list[float] = []
        per_second = [0] * (int(seconds) + 1)
        began, cpu = time.perf_counter(), _cpu_seconds()
        open_calls = len(self._clients)
        while open_calls:
            for number, _ in poll.poll():
                client = self._clients[number]
                head, body = client.answer()
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"{head.decode()}\n{body.decode()}")
                now = time.perf_counter()
                if now - began < seconds:
                    times.append(now - client.sent_at)
                    per_second[int(now - began)] += 1
                    client.send(self._request())
                else:
                    open_calls -= 1
        return Measured(
            kept=len(times),
            seconds=seconds,
            cpu_seconds=_cpu_seconds() - cpu,
            median=statistics.median(times),
            p99=statistics.quantiles(times, n=100)[98],
            slowest_second=min(per_second[: int(seconds)] or [len(times)]),
        )

    def _request(self) -> bytes:
        if not self._stock:
            self._lease()
        execution = self._stock.popleft()
        fields = {
            "job": execution.job.name,
            "device": execution.device.name,
            "job_timestamp": execution.timestamp,
            "start_timestamp": execution.timestamp,
            "end_timestamp": execution.timestamp,
        }
        head = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{execution.job.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        body = (
            head.encode()
            + self._configurations.content()
            + b"\r\n--%s--\r\n" % (_BOUNDARY.encode())
        )
        return (
            f"POST /worker/complete HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def _lease(self) -> None:
        path = f"/worker/next?max={PER_CALL}&seconds=3600"
        self._leasing.send(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head, body = self._leasing.answer()
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"nothing to lease: {head.decode()}")
        self._stock.extend(self._executions.decode(body))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read the arguments, and print the measure as JSON."""
    _, url, clients, seconds = sys.argv
    print(json.dumps(msgspec.to_builtins(Load(url, int(clients)).run(float(seconds)))))


if __name__ == "__main__":
    main()
