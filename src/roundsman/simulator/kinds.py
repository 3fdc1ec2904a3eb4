"""Device operating systems as data: what they greet with, ask with and print.

Each prints a configuration that holds what has misled readers of configurations: lines that look
like prompts, comments ending in `#`, blanks at line ends.
"""

import gzip
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class State:
    """What the output of a device depends on."""

    host: str
    """Its own name."""
    revision: int = 1
    """Counts the edits of its configuration."""
    config_bytes: int = 4000
    """Length of its configuration, roughly."""


Print = Callable[[State], str]
"""What a command prints, with LF line ends."""


@dataclass(frozen=True, kw_only=True)
class Enter:
    """A command that leads to another mode."""

    mode: str


@dataclass(frozen=True, kw_only=True)
class Leave:
    """A command that ends the session, or leads back to the first mode."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One device operating system."""

    name: str
    """Such as `ios`; also a tag in the fleet's configuration."""
    prompts: Mapping[str, str]
    """By mode, the first being the one after login; `{host}` is filled in."""
    prompt_ends_with: str
    """What the prompts end with, as a job says it."""
    greeting: str
    """Printed after login; `{host}` is filled in."""
    commands: Mapping[str, Print | Enter | Leave]
    """What is understood, in every mode."""
    unknown: str
    """Printed for every other command; `{command}` is filled in."""
    backup: str
    """The command that prints the configuration."""
    files: Mapping[str, Callable[[State], bytes]] = field(default_factory=dict)
    """Files by absolute path."""


def _filled(blocks: Callable[[int], str], head: str, tail: str, size: int) -> str:
    """A head, as many blocks as it takes to reach the size, and a tail."""

    def parts() -> Iterator[str]:
        length = len(head) + len(tail)
        yield head
        for number in itertools.count(1):
            if length >= size:
                break
            block = blocks(number)
            length += len(block)
            yield block
        yield tail

    return "".join(parts())


def ios_config(state: State) -> str:
    """What `show running-config` prints on the `ios` kind."""
    head = f"""Building configuration...

Current configuration : {state.config_bytes} bytes
!
! Last configuration change at 12:00:{state.revision % 60:02} UTC
!
version 15.2
service timestamps log datetime msec
!
hostname {state.host}
!
enable secret 5 $1$mERr$hx5rVt7rPNoS4wqbXKX7m0
!
banner motd ^C
Authorised access only: this is {state.host}#
^C
!
snmp-server community revision-{state.revision} RO
!
"""

    def interface(number: int) -> str:
        return f"""interface GigabitEthernet{number // 48}/{number % 48}
 description to rack {number} #
 ip address 10.{number >> 8 & 255}.{number & 255}.1 255.255.255.0
 no shutdown\x20
!
"""

    return _filled(interface, head, "line vty 0 4\n!\nend\n\n", state.config_bytes)


def junos_config(state: State) -> str:
    """What `show configuration` prints on the `junos` kind."""
    head = f"""## Last commit: 2026-01-01 12:00:{state.revision % 60:02} UTC by admin
version 21.4R1.12;
system {{
    host-name {state.host};
    root-authentication {{
        encrypted-password "$6$abc"; ## SECRET-DATA
    }}
    login {{
        message "admin@{state.host}> is not a place to be";
    }}
    location building revision-{state.revision};
}}
interfaces {{
"""

    def interface(number: int) -> str:
        return f"""    ge-0/0/{number} {{
        description "to rack {number} >";
        unit 0 {{
            family inet {{
                address 10.{number >> 8 & 255}.{number & 255}.1/24;
            }}
        }}
    }}
"""

    return _filled(interface, head, "}\n\n", state.config_bytes)


def linux_config(state: State) -> str:
    """What `cat /etc/config` prints on the `linux` kind."""
    head = f"# {state.host}, revision {state.revision}\nuser='admin'\nPS1='{state.host}:~$ '\n"
    return _filled(
        lambda number: f"config interface 'lan{number}'\n\toption mtu '1500'\n",
        head,
        "",
        state.config_bytes,
    )


IOS = Kind(
    name="ios",
    prompts={"exec": "{host}#", "config": "{host}(config)#"},
    prompt_ends_with="#",
    greeting="\n{host} is watched by a dog #\nUnauthorised access is prohibited #\n\n",
    commands={
        "show running-config": ios_config,
        "show run": ios_config,
        "show version": lambda state: f"IOS Software, Version 15.2(4)E{state.revision}\n",
        "terminal length 0": lambda _: "",
        "configure terminal": Enter(mode="config"),
        "end": Enter(mode="exec"),
        "exit": Leave(),
    },
    unknown="                ^\n% Invalid input detected at '^' marker.\n\n",
    backup="show running-config",
)

JUNOS = Kind(
    name="junos",
    prompts={"operational": "admin@{host}> "},
    prompt_ends_with=">",
    greeting="--- JUNOS 21.4R1.12 Kernel 64-bit\n",
    commands={
        "show configuration": junos_config,
        "show version": lambda state: f"Hostname: {state.host}\nModel: srx300\n",
        "set cli screen-length 0": lambda _: "Screen length set to 0\n\n",
        "exit": Leave(),
    },
    unknown="\nunknown command.\n\n",
    backup="show configuration",
)

LINUX = Kind(
    name="linux",
    prompts={"shell": "admin@{host}:~$ "},
    prompt_ends_with="$",
    greeting="Last login: Thu Jan  1 00:00:00 2026\n",
    commands={
        "cat /etc/config": linux_config,
        "uname -n": lambda state: f"{state.host}\n",
        "exit": Leave(),
    },
    unknown="-sh: {command}: not found\n",
    backup="cat /etc/config",
    files={
        "/etc/config": lambda state: linux_config(state).encode(),
        "/etc/config.gz": lambda state: gzip.compress(linux_config(state).encode(), mtime=0),
    },
)

KINDS = (IOS, JUNOS, LINUX)
