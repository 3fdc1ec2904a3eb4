"""Sessions as recordings: what they hold and hide, and that they are read like the device."""

import base64
import gzip
import io
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roundsman.secret import Secret
from roundsman.simulator.faults import Faults
from roundsman.simulator.recorded import Recording, read_recording, recording_of
from roundsman.simulator.server import HOST, DialogueServer, Login
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.job import Command, Job, Scrubber, ScrubberType
from roundsman.wire.platform import Enable, Pager, Platform, Question
from roundsman.wire.run import FailureClass
from roundsman.worker.detectors.scan import mask
from roundsman.worker.recording import Dialogue, Exchange, as_yaml, dialogue_of, pack, unpack
from roundsman.worker.sessions.events import Came, Purpose, Sent
from roundsman.worker.sessions.tape import Said, Tape
from tests.worker.sessions import corpus
from tests.worker.sessions.conftest import Bench, commands

PASSWORD = "letmein"
PLATFORM = Platform(
    name="odd",
    prompts=(r"odd\w*[#>]",),
    questions=(Question(pattern="Press RETURN", answer="\n"),),
    enable=Enable(prompt="odd#"),
    setup=("terminal length 0",),
    more=(Pager(pattern="--More--"), Pager(pattern=r"<--- more --->", key="\x20")),
)
SCRUBBERS = (
    Scrubber(
        type=ScrubberType.REGEX_SUBSTITUTE,
        search=r"^(snmp-server community )\S+",
        replace=r"\1<secret hidden>",
    ),
    Scrubber(
        type=ScrubberType.REGEX,
        search=r"(?s)^-----BEGIN X-----.*?-----END X-----$",
        replace="<secret hidden>",
    ),
    Scrubber(type=ScrubberType.REGEX, search=r"^uptime .*\n"),
)

ODD = r"""
init_prompt: |-
  \e[2J\e[HWelcome to \e[1modd\e[0m, letmein
  Press RETURN to get started
commands:
  - "\n": |-
      \x20
      \e[32modd\e[0m>\x20
  - "enable\n": |-
      enable
      Password:\x20
  - "********\n": |-
      odd#\x20
  - "terminal length 0\n": |-
      terminal length 0
      % no such thing
      odd#\x20
  - "show odd\n": |-
      show odd
      \tTabbed, and \x00\x00padded\x07
      half of \xC3 a letter, whole: ü \xE2\x82
      snmp-server community \e[1ms3cr3tA\e[0m RO
      snmp-server comm\b\b\b\bcommunity s3cr3tB RO\r
      enable password s3cr3tW\r                       \r!
      overwritten l\e[1me\e[0mtmein\rsnmp-server community s3cr3tC RO\e[K
      uptime 3 days
      -----BEGIN X-----
      s3cr3tD
       --More--\x20
  - " ": |-
      \b\b\b\b\b\b\b\b\b\b          \b\b\b\b\b\b\b\b\b\bs3cr3tE
      -----END X-----
      <--- more --->
  - " ": |-
      \r              \rsnmp-server community s3cr3tF RW
      enable password s3cr3tG
      # a comment #{x} with "quotes" and a \\ and \\n
      \r\rend
      odd#\x20
  - "exit\n": |-
      exit
"""


@pytest.fixture
def original(tmp_path: Path) -> Recording:
    file = tmp_path / "odd.yaml"
    file.write_text(ODD)
    return read_recording(file)


def entry(server: DialogueServer) -> Device:
    protocol = (
        Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=server.port))
        if server.protocol is ProtocolType.TELNET
        else Protocol(ssh=Ssh(port=server.port))
    )
    credentials = Credentials(user="admin", password=Secret(PASSWORD), enable=Secret("en4ble"))
    return Device(
        name="odd", host=HOST, protocol=protocol, credentials=credentials, platform=PLATFORM
    )


def show(*more: str | Command) -> Job:
    return commands("show odd", *more, ends_with=None, scrubbers=SCRUBBERS)


def server(
    recording: Recording, protocol: ProtocolType, faults: Faults | None = None
) -> DialogueServer:
    return DialogueServer(
        recording.dialogue,
        protocol=protocol,
        login=Login(user="admin", password=PASSWORD),
        faults=faults or Faults(),
    )


async def record(bench: Bench, folder: Path) -> Recording:
    assert bench.recording is not None
    file = folder / "recorded.yaml"
    file.write_text(bench.recording)
    return read_recording(file)


@pytest.mark.parametrize("protocol", ProtocolType)
@pytest.mark.parametrize("pieces", [None, 7])
async def test_a_recording_is_read_like_the_device(
    bench: Bench, tmp_path: Path, original: Recording, protocol: ProtocolType, pieces: int | None
) -> None:
    bench.whole_tapes = True
    async with server(original, protocol, Faults(piece_bytes=pieces)) as device:
        result = await bench.run(entry(device), show())
    # Within a line filters do the same to what stands for a secret. What only detectors know, and
    # what was hidden as a whole, stays as it was recorded.
    expected = result.replace(b"s3cr3tG", b"<hidden>")
    expected = expected.replace(b"\n<secret hidden>\n", b"\n<hidden>\n")
    made = bench.recording
    assert made is not None
    for secret in ("s3cr3t", PASSWORD, "en4ble", "tmein"):
        assert secret not in made
    recorded = await record(bench, tmp_path)
    for again in ProtocolType:
        # Over SSH a login in the terminal is one more dialogue, which the recording holds.
        if protocol is ProtocolType.TELNET and again is ProtocolType.SSH:
            continue
        login = None if protocol is ProtocolType.TELNET else Login(user="admin", password=PASSWORD)
        played = DialogueServer(recorded.dialogue, protocol=again, login=login)
        async with played as device:
            bench.known_hosts.unlink(missing_ok=True)
            assert await bench.run(entry(device), show()) == expected


def sample() -> list[Path]:
    """The smallest recording of each model."""
    smallest: dict[str, Path] = {}
    for path in sorted(corpus.recordings(), key=lambda path: (path.stat().st_size, path.name)):
        smallest.setdefault(path.name.partition("#")[0], path)
    return [path for path in smallest.values() if path.stat().st_size < 3500]


@pytest.mark.skipif(not corpus.OXIDIZED.is_dir(), reason="the recorded dialogues are not there")
@pytest.mark.parametrize("path", sample(), ids=lambda path: path.name.partition("#simul")[0])
async def test_recorded_devices_are_recorded_again(
    bench: Bench, tmp_path: Path, path: Path
) -> None:
    bench.whole_tapes = True
    dialogue = corpus.read(path)
    job = commands(*dialogue.commands, ends_with=None)
    async with corpus.played(dialogue) as device:
        result = await bench.run(device, job)
    again = corpus.described(await record(bench, tmp_path), dialogue.model)
    async with corpus.played(again) as device:
        # What detectors hide is hidden in the second result; nothing else differs.
        expected = mask(result).replace(b"<secret hidden>", b"<hidden>")
        assert mask(await bench.run(device, job)) == expected


async def test_a_failed_session_is_recorded_as_far_as_it_went(
    bench: Bench, tmp_path: Path, original: Recording
) -> None:
    job = show(Command(command="show more", expect=("never",)))
    async with server(original, ProtocolType.SSH) as device:
        failure, _ = await bench.fail(entry(device), job)
    assert failure is FailureClass.COMMAND
    recorded = await record(bench, tmp_path)
    assert [exchange.sent for exchange in recorded.exchanges][-2:] == [" ", "show more\n"]
    assert recorded.exchanges[-1].came == b"show more\n% not recorded\nodd# "
    async with server(recorded, ProtocolType.SSH) as device:
        bench.known_hosts.unlink()
        assert (await bench.fail(entry(device), job))[0] is FailureClass.COMMAND


async def test_without_a_failure_no_recording_is_made(bench: Bench, original: Recording) -> None:
    async with server(original, ProtocolType.SSH) as device:
        await bench.run(entry(device), show())
    assert bench.recording is None


def said(*turns: tuple[bytes, bytes]) -> list[Said]:
    return [
        Said(None, None, b"r1#"),
        *(Said(sent, Purpose.COMMAND, came) for sent, came in turns),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"a\nx\nb\n", b"a\nb\n"), (b"a\nb\n", b"a\nnew\nmore\nb\n"), (b"x\nx\n", b""), (b"", b"n\n")],
)
def test_lines_that_a_filter_takes_out_or_adds_stay_in_order(before: bytes, after: bytes) -> None:
    def clean(text: bytes) -> bytes:
        return after if text == b"show\n" + before else text

    came = b"show\n" + before + b"r1#"
    dialogue = dialogue_of(said((b"show\n", came)), enter=b"\n", clean=clean)
    text = dialogue.exchanges[0].came.replace(b"\r", b"")
    assert text.removesuffix(b"r1#") == after


def test_probes_leave_no_trace_and_enter_is_a_line_end() -> None:
    turns = [
        Said(None, None, b"hi\r\nr1#"),
        Said(b"\r", Purpose.PROBE, b"\r\nr1#"),
        Said(b"show\r", Purpose.COMMAND, b"show\r\nr1#\r\nmore\r\nr1#"),
        Said(b"\r", Purpose.PROBE, b"\r\nr1#"),
        Said(b"\r", Purpose.ANSWER, b"\r\nyes\r\nr1#"),
    ]
    dialogue = dialogue_of(turns, enter=b"\r", clean=lambda text: text)
    assert dialogue.greeting == b"hi\r\nr1#"
    assert dialogue.exchanges == (
        (b"show\n", b"show\r\nr1#\r\nmore\r\nr1#"),
        (b"\n", b"\r\nyes\r\nr1#"),
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"show x\n", b" ", b"\n", b'a "b" \\ #{x}\n', b"q\x03"]),
            st.lists(
                st.sampled_from(
                    [
                        *(b"\n", b"\r\n", b" ", b"a", b"#{x}", b'"', b"\\n", b"\x1b[0m", b"\0"),
                        *(b"\xc3", b"\xc3\xa9", b"\b", b"\t", b": ", b"- ", b"\x85", b"---"),
                        b"\xe2\x80\xa8",
                    ]
                )
            ).map(b"".join),
        )
    )
)
def test_whatever_was_said_is_read_from_the_file_again(pairs: list[tuple[bytes, bytes]]) -> None:
    exchanges = tuple(Exchange(sent, came) for sent, came in pairs)
    text = as_yaml(Dialogue(b" hi\r\nr1# ", exchanges), remarks=["of: a device"])
    recording = recording_of(yaml.safe_load(text), Path("a file"))
    assert recording.greeting == b" hi\nr1# "
    assert [(sent.encode(), came) for sent, came in recording.exchanges] == [
        (sent, came.replace(b"\r\n", b"\n")) for sent, came in pairs
    ]


def test_a_tape_keeps_the_beginning_and_the_end_in_whole_lines() -> None:
    tape = Tape(io.BytesIO(), head_bytes=100, tail_bytes=50)
    tape.hear(Sent(b"show\n", Purpose.COMMAND))
    for number in range(100):
        tape.hear(Came(b"line %03d\n" % number))
    tape.hear(Sent(b"exit\n", Purpose.COMMAND))
    tape.hear(Came(b"bye\n"))
    first, second, third = tape.said()
    assert (first.came, second.sent, third.sent) == (b"", b"show\n", b"exit\n")
    lines = second.came.splitlines()
    assert lines[0] == b"line 000"
    assert lines[-1] == b"line 099"
    assert lines[11] == b"[756 bytes left out]"
    assert third.came == b"bye\n"
    assert sum(map(len, (second.came, third.came))) < 180


def test_a_tape_begins_its_end_not_within_a_private_key() -> None:
    tape = Tape(io.BytesIO(), head_bytes=50, tail_bytes=300)
    tape.hear(Came(b"hello\n" * 20 + (b"A" * 64 + b"\n") * 5 + b"AAA=\n-----END\nr1#"))
    [said] = tape.said()
    assert b"AAA" not in said.came
    assert said.came.endswith(b"-----END\nr1#")


def test_a_recording_travels_packed() -> None:
    text = "---\ncommands: ü\n" * 5000
    packed = pack(text)
    assert packed is not None
    assert unpack(base64.b64decode(packed)) == text
    noise = random.Random(3).randbytes(60_000).hex()
    assert pack(noise) is None
    for wrong in (b"no gzip", gzip.compress(b"x" * (17 << 20))):
        with pytest.raises(ValueError, match=r"larger than|header"):
            unpack(wrong)
