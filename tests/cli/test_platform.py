"""`roundsman platform`, on a platform and a dialogue of our own."""

import subprocess
import sys
from pathlib import Path

PLATFORM = r"""
description: Acme OS
prompts: ['[\w-]+>']
setup: [page off]
more: [{pattern: '--more--'}]
errors: ['^what\?']
standard:
  backup:
    commands:
      - {command: show parts, optional: true}
      - {command: dump, end: '^EOF$'}
noise: ['^up \d+ days\n']
secrets: ['^(key )\S+']
"""
DIALOGUE = r"""
init_prompt: |-
  Welcome, description #
  acme-1>\x20
commands:
  - "page off\n": |-
      page off
      acme-1>\x20
  - "show parts\n": |-
      show parts
      what?
      acme-1>\x20
  - "dump\n": |-
      dump
      up 12 days
      key hunter2
      --more--
  - " ": |-
      \b\b\b\b\b\b\b\b        \b\b\b\b\b\b\b\bvlan 7
      EOF
      acme-1>\x20
"""


def platform(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roundsman", "platform", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder,
    )  # fmt: skip


def written(folder: Path, platform: str = PLATFORM, dialogue: str = DIALOGUE) -> None:
    (folder / "acme.yaml").write_text(platform)
    (folder / "acme#one#simulation.yaml").write_text(dialogue)


def test_a_file_is_tried_on_the_dialogues_beside_it(tmp_path: Path) -> None:
    written(tmp_path)
    done = platform("test", "acme.yaml", folder=tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == [
        "acme.yaml: good: 1 prompts, 1 noise and 1 secret filters, standard jobs: backup",
        "",
        "acme#one#simulation.yaml: backup",
        r"    show parts: rejected: its answer matches '^what\\?'",
        "    dump: 4 lines",
        "  -up 12 days",
        "  -key hunter2",
        "  +key <secret hidden>",
    ]


def test_a_dialogue_that_is_cut_off_fails(tmp_path: Path) -> None:
    written(tmp_path, dialogue=DIALOGUE.replace("      EOF\n", ""))
    done = platform("test", "acme.yaml", "acme#one#simulation.yaml", folder=tmp_path)
    assert "  ! dump: 3 lines, not ending with '^EOF$'" in done.stdout.splitlines()
    assert done.stderr == (
        "platform.test_failed: 1 of 1 dialogues are not read as they should be\n"
    )
    assert done.returncode == 1


def test_a_command_that_must_not_be_rejected_fails(tmp_path: Path) -> None:
    written(tmp_path, platform=PLATFORM.replace(", optional: true", ""))
    done = platform("test", "acme.yaml", folder=tmp_path)
    assert "  ! show parts: rejected" in done.stdout
    assert done.returncode == 1


def test_everything_that_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    written(tmp_path, platform=PLATFORM.replace("'^what", "'(^what").replace("setup", "stup"))
    done = platform("test", "acme.yaml", folder=tmp_path)
    lines = [line.split(": ")[:2] for line in done.stderr.splitlines()]
    assert lines == [
        ["config.unknown_key", "acme.yaml:4 stup"],
        ["config.regex", "acme.yaml:6 errors[0]"],
    ]


def test_what_is_no_dialogue_is_said(tmp_path: Path) -> None:
    written(tmp_path, dialogue="- a list")
    done = platform("test", "acme.yaml", folder=tmp_path)
    assert done.stderr.startswith("dialogue.unreadable: acme#one#simulation.yaml is no recorded")
    assert done.returncode == 1


def test_platforms_are_listed_and_shown(tmp_path: Path) -> None:
    listed = (
        platform("list", "asr", folder=tmp_path).stdout
        + platform("list", "IOS XE", folder=tmp_path).stdout
    )
    assert "cisco_ios " in listed
    assert "juniper" not in listed
    shown = platform("show", "iosxe", folder=tmp_path)
    assert shown.stdout.startswith("description: Cisco IOS")
    assert platform("show", "isoxe", folder=tmp_path).stderr == (
        'platform.unknown: there is no platform "isoxe"; did you mean "iosxe"?\n'
    )
