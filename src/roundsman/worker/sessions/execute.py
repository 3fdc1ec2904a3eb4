"""Commands without a shell: each has a channel of its own, and ends with it."""

from roundsman.worker.sessions.errors import ClosedEarlyError, RejectedError
from roundsman.worker.sessions.events import Came, Hear, Purpose, Sent, nobody
from roundsman.worker.sessions.ssh_channel import SshChannel
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.sessions.transcript import Span, Transcript


async def execute(
    channel: SshChannel, command: str, transcript: Transcript, hear: Hear = nobody
) -> Span:
    """Read what a command prints; return where in the transcript that is.

    It has ended when the device closes the channel, and nothing but the device has ended it.
    """
    hear(Sent(command.encode() + b"\n", Purpose.COMMAND))
    start = transcript.size
    screen = LineRenderer()
    try:
        while data := await channel.read():
            hear(Came(data))
            transcript.write(screen.feed(data))
    finally:
        transcript.write(screen.line)
    await channel.wait_closed()
    if channel.broken:
        raise ClosedEarlyError(f"{command!r} was cut off before it ended")
    if channel.exit_status:
        raise RejectedError(f"{command!r} ended with status {channel.exit_status}, expected 0")
    return Span(start, transcript.size)
