"""Files that a device can be played from, of whichever format."""

from collections.abc import Callable
from pathlib import Path

import yaml

from roundsman.simulator.machine import MachineError, machine_of
from roundsman.simulator.recorded import DialogueError, recording_of
from roundsman.simulator.terminal import Dialogue


def read_dialogues(
    path: Path, *, host: str = "router", state: str | None = None
) -> Callable[[], Dialogue]:
    """What makes a dialogue for each session.

    The file is a recorded dialogue, or a state machine: of it `host` is the name of the device and
    `state` the first state. Raises `DialogueError` and `MachineError`.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DialogueError(f"{path} cannot be read: {error}") from None
    if isinstance(document, dict) and "init_prompt" in document:
        if state is not None:
            raise MachineError(f"{path} is a recorded dialogue, which has no states")
        return recording_of(document, path).dialogue
    machine = machine_of(document, path, state)
    return lambda: machine.dialogue(host)
