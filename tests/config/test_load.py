"""What comes of a configuration."""

import contextlib
import doctest
import importlib
import random
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundsman.config.load import load
from roundsman.config.records import Priority, Role, TagLimits
from roundsman.documents.problems import ConfigurationError
from roundsman.testing.factories import write_fleet
from roundsman.wire import codec
from roundsman.wire.device import Device
from roundsman.wire.job import Command, Job
from tests.config.files import loaded, problems, written

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA8Bx4gGkYyHqLr5zq4tJ4mFmWcHhVbNfQ9jzKqJ0d3x edge1"


def job(name: str = "a", **more: Any) -> dict[str, Any]:
    return {name: {"schedule": {"fixed": 1}, "commands": ["x"], **more}}


def test_a_device_in_full(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "edge1").write_text("KEY\n\n")
    read = loaded(
        tmp_path,
        {
            "devices": {
                "edge1": {
                    "host": "2001:db8::1",
                    "protocol": {
                        "type": "ssh",
                        "ssh": {"port": 2222, "include_cbc_ciphers": True, "host_keys": [KEY]},
                    },
                    "tags": ["b", "a", "b"],
                    "credentials": {
                        "user": "backup",
                        "pass": "env:EDGE",
                        "private_key": "file:keys/edge1",
                        "passphrase": "open: sesame",
                        "prompt": {"ends_with": ">"},
                    },
                },
                "edge2": None,
            }
        },
        environ={"EDGE": "hidden"},
    )
    edge1 = read.devices["edge1"]
    assert (edge1.host, edge1.tags) == ("2001:db8::1", ("a", "b"))
    assert (edge1.protocol.ssh.port, edge1.protocol.ssh.include_cbc_ciphers) == (2222, True)
    assert edge1.protocol.ssh.host_keys == (KEY,)
    assert edge1.credentials is not None
    assert edge1.credentials.password is not None
    assert edge1.credentials.password.reveal() == "hidden"
    assert edge1.credentials.private_key is not None
    assert edge1.credentials.private_key.reveal() == "KEY\n"
    assert edge1.credentials.passphrase is not None
    assert edge1.credentials.passphrase.reveal() == "open: sesame"
    assert "hidden" not in repr(read)
    assert read.devices["edge2"] == Device(name="edge2", host="edge2")


def test_credentials_in_order_and_the_way_through_jump_hosts(tmp_path: Path) -> None:
    """What is behind a bastion, with several credentials; and as a worker reads it."""
    read = loaded(
        tmp_path,
        {
            "jump_hosts": {
                "bastion": {
                    "host": "192.0.2.1",
                    "protocol": {"ssh": {"port": 2222}, "local_address": "192.0.2.9"},
                    "credentials": {"user": "jump", "agent": True},
                },
                "inner": None,
            },
            "device_generics": {
                "default": {
                    "jump_hosts": "bastion",
                    "credentials": [
                        {"user": "new", "pass": "env:NEW"},
                        {"user": "old", "pass": "letmein", "enable": None},
                    ],
                }
            },
            "devices": {
                "edge1": {"protocol": {"keepalive_seconds": 0}},
                "edge2": {"jump_hosts": ["bastion", "inner"], "credentials": {"user": "own"}},
                "edge3": {"jump_hosts": None, "credentials": None},
            },
        },
        environ={"NEW": "hidden"},
    )
    edge1, edge2, edge3 = (read.devices[name] for name in ("edge1", "edge2", "edge3"))
    assert [one.user for one in edge1.all_credentials] == ["new", "old"]
    assert edge1.protocol.keepalive_seconds == 0
    (bastion,) = edge1.jump_hosts
    assert (bastion.name, bastion.host, bastion.protocol.ssh.port) == ("bastion", "192.0.2.1", 2222)
    assert bastion.protocol.local_address == "192.0.2.9"
    assert bastion.credentials is not None
    assert bastion.credentials.agent
    assert [one.user for one in edge2.all_credentials] == ["own"]
    assert [hop.name for hop in edge2.jump_hosts] == ["bastion", "inner"]
    assert (edge3.jump_hosts, edge3.all_credentials) == ((), ())
    for device in read.devices.values():
        assert codec.decoder(Device).decode(codec.encode(device)) == device


def test_a_job_in_full(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        {
            "jobs": {
                "show": {
                    "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
                    "commands": [
                        "show run",
                        {"command": "y", "expect": ["a"], "expect_not": ["b"], "timeout": 5,
                         "enter": False},
                        {"command": "z", "implicit_enter": False, "expect": None},
                    ],
                    "prompt": {"ends_with": "#"},
                    "scrubbers": [{"type": "simple", "search": "x"}],
                    "command_timeout": 1, "session_timeout": 2, "max_bytes": 3,
                    "missed": "none", "missed_cap": 4, "missed_grace_seconds": 0,
                },
                "get": {
                    "type": "file",
                    "schedule": {"duration": "1 hour"},
                    "file": {"/a": None, "/b.gz": {"compression": "gzip"}},
                },
            }
        },
    )  # fmt: skip
    show = read.jobs["show"]
    assert show.command is not None
    assert show.command.inline == ("show run", "y", "z")
    assert show.command_set is not None
    assert show.command_set.commands == (
        Command(command="show run"),
        Command(command="y", expect=("a",), expect_not=("b",), timeout=5, implicit_enter=False),
        Command(command="z", implicit_enter=False),
    )
    assert show.file_set is None
    sent = msgspec.json.decode(codec.encode(read.jobs["get"]))
    assert sent == {
        "name": "get",
        "type": "file",
        "schedule": {"duration": "1 hour"},
        "file_set": {"Files": [{"name": "/a"}, {"name": "/b.gz", "compression": "gzip"}]},
    }
    assert codec.decoder(Job).decode(codec.encode(show)) == show


def test_inline_commands_and_listed_files_mean_the_same(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        {
            "jobs": {
                "a": {"schedule": {"fixed": 1}, "command": {"inline": ["x"]}},
                "b": {"schedule": {"fixed": 1}, "commands": ["x"]},
                "c": {"schedule": {"fixed": 1}, "type": "file", "file": {"/x": {}}},
                "d": {"schedule": {"fixed": 1}, "type": "file", "files": [{"name": "/x"}]},
            }
        },
    )
    same = {name: msgspec.structs.replace(job, name="") for name, job in read.jobs.items()}
    assert same["a"] == same["b"]
    assert same["c"] == same["d"]


def test_generics(tmp_path: Path) -> None:
    """Mappings deep, lists as a whole, null takes away, `default` unless another is named."""
    read = loaded(
        tmp_path,
        {
            "device_generics": {
                "default": {"host": "default", "tags": ["x"]},
                "base": {"protocol": {"ssh": {"port": 1, "include_cbc_ciphers": True}},
                         "tags": ["a", "b"], "credentials": {"user": "u"}},
                "site": {"generic": "base", "protocol": {"ssh": {"port": 2}}},
            },
            "devices": {
                "unnamed": {},
                "named": {"generic": "site", "protocol": {"ssh": {"port": 3}}, "tags": ["c"]},
                "reset": {"generic": "site", "credentials": None,
                          "protocol": {"ssh": {"port": None}}, "tags": None},
                "alone": {"generic": None},
            },
        },
    ).devices  # fmt: skip
    assert (read["unnamed"].host, read["unnamed"].tags) == ("default", ("x",))
    named, reset = read["named"], read["reset"]
    assert (named.host, named.tags, named.credentials and named.credentials.user) == (
        "named", ("c",), "u"
    )  # fmt: skip
    assert (named.protocol.ssh.port, named.protocol.ssh.include_cbc_ciphers) == (3, True)
    assert (reset.protocol.ssh.port, reset.protocol.ssh.include_cbc_ciphers) == (22, True)
    assert (reset.credentials, reset.tags) == (None, ())
    assert read["alone"] == Device(name="alone", host="alone")


def test_the_nearer_of_what_excludes_each_other_wins(tmp_path: Path) -> None:
    configuration = loaded(
        tmp_path,
        {
            "job_generics": {
                "default": {
                    "schedule": {"cron": "0 3 * * *", "timezone": "Asia/Tokyo"},
                    "command": {"inline": ["x"]},
                    "template_values": {"cron": "1", "duration": "2"},
                }
            },
            "jobs": {
                "same": {},
                "other cron": {"schedule": {"cron": "0 4 * * *"}},
                "duration": {"schedule": {"duration": "1 hour"}, "commands": ["y"]},
                "files": {"type": "file", "files": [{"name": "/x"}]},
                "values": {"commands": ["{{cron}} {{duration}}"], "template_values": {"cron": "3"}},
            },
            "devices": {"x": {"jobs": ["values"]}},
        },
    )
    read, values = configuration.jobs, configuration.slots["x", "values"].job
    assert read["same"].schedule.timezone == "Asia/Tokyo"
    assert read["other cron"].schedule == msgspec.structs.replace(
        read["same"].schedule, cron="0 4 * * *"
    )
    assert read["duration"].schedule.cron is read["duration"].schedule.timezone is None
    assert read["duration"].command is not None
    assert read["duration"].command.inline == ("y",)
    assert read["files"].command is None
    assert values.command is not None
    assert values.command.inline == ("3 2",)


def test_what_a_device_says_of_a_job(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        {
            "jobs": {**job("a", command_timeout=5), **job("b"), **job("c")},
            "device_generics": {
                "default": {"jobs": {"a": {"command_timeout": 6, "session_timeout": 7}, "b": None}}
            },
            "devices": {
                "same": {},
                "more": {"jobs": {"a": {"session_timeout": 8}, "c": None}},
                "reset": {"jobs": {"a": {"command_timeout": None}}},
                "list": {"jobs": ["c"]},
                "none": {"jobs": None},
                "empty": {"jobs": []},
            },
        },
    ).slots
    timeouts = {
        key: (slot.job.command_timeout, slot.job.session_timeout) for key, slot in read.items()
    }
    assert timeouts == {
        ("same", "a"): (6, 7),
        ("same", "b"): (60, 600),
        ("more", "a"): (6, 8),
        ("more", "b"): (60, 600),
        ("more", "c"): (60, 600),
        ("reset", "a"): (60, 7),
        ("reset", "b"): (60, 600),
        ("list", "c"): (60, 600),
    }


def test_template_values_the_nearest_wins(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        {
            "job_generics": {"default": {"template_values": dict.fromkeys("abcde", "job generic")}},
            "jobs": {
                "show": {
                    "schedule": {"fixed": 1},
                    "commands": [
                        {"command": "{{a}}, {{ b }}, {{{{c}}", "expect": ["{{c}}"],
                         "expect_not": ["{{d}}"]}
                    ],
                    "scrubbers": [{"type": "regex", "search": "{{e}}", "replace": "{{e}}"}],
                    "template_values": dict.fromkeys("bcde", "job") | {"unused": 1},
                }
            },
            "device_generics": {
                "default": {"template_values": dict.fromkeys("cde", "device generic")}
            },
            "devices": {
                "x": {
                    "template_values": dict.fromkeys("de", "device"),
                    "jobs": {"show": {"template_values": {"e": 7}}},
                }
            },
        },
    )  # fmt: skip
    job = read.slots["x", "show"].job
    assert job.command_set is not None
    assert job.command_set.commands == (
        Command(
            command="job generic, job, {{c}}", expect=("device generic",), expect_not=("device",)
        ),
    )
    assert (job.scrubbers[0].search, job.scrubbers[0].replace) == ("7", "7")


def test_a_job_on_no_device_keeps_its_variables(tmp_path: Path) -> None:
    """What a value stands for may be secret, and jobs are shown to whoever may read."""
    jobs = job(commands=["show {{vlan}} {{port}}"], template_values={"port": "hidden"})
    read = loaded(tmp_path, {"jobs": jobs})
    assert read.jobs["a"].command is not None
    assert read.jobs["a"].command.inline == ("show {{vlan}} {{port}}",)


def test_what_reads_the_same_is_one_object(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        {
            "jobs": {**job("a"), **job("b", commands=["show {{vlan}}"])},
            "devices": {
                f"edge{n}": {
                    "tags": ["core", "site"],
                    "template_values": {"vlan": n % 2, "unused": n},
                    "credentials": {"user": "u", "pass": "p"},
                    "jobs": {"a": None, "b": {"command_timeout": 5}},
                }
                for n in range(4)
            },
        },
    )
    first, second, third = (read.slots[f"edge{n}", "b"] for n in range(3))
    assert first.job is third.job
    assert first.job != second.job
    assert first.schedule is second.schedule
    assert read.slots["edge0", "a"].job is read.slots["edge3", "a"].job is read.jobs["a"]
    assert read.devices["edge0"].tags is read.devices["edge3"].tags
    assert read.devices["edge0"].credentials is read.devices["edge3"].credentials


def test_a_value_that_breaks_an_expression_is_not_told(tmp_path: Path) -> None:
    """What a value stands for may be secret."""
    jobs = job(scrubbers=[{"type": "regex", "search": "key {{key}}"}])
    site = {"jobs": jobs, "devices": {"x": {"jobs": ["a"], "template_values": {"key": "[z-a]"}}}}
    (problem,) = problems(tmp_path, site)
    assert problem.endswith(": not a regular expression when its template values are filled in")


def test_plan_follows_the_schedule_alone(tmp_path: Path) -> None:
    def plan(**more: Any) -> str:
        return (
            loaded(tmp_path, {"jobs": job(**more), "devices": {"x": {"jobs": ["a"]}}})
            .slots["x", "a"]
            .plan
        )

    assert plan() == plan(commands=["other"], missed="all") == '{"schedule":{"fixed":1}}'
    assert plan() != plan(schedule={"fixed": 2})
    assert plan(schedule={"cron": "* * * * *"}) != plan(
        schedule={"cron": "* * * * *", "timezone": "Asia/Tokyo"}
    )


def test_schedules_are_ready_to_be_asked(tmp_path: Path) -> None:
    read = loaded(tmp_path, {"jobs": job(), "devices": {"x": {"jobs": ["a"]}}})
    assert read.slots["x", "a"].schedule.next_after(0) == 1


def test_controller_settings(tmp_path: Path) -> None:
    pem = tmp_path / "tls.pem"
    pem.write_text("")
    digest = "sha256:" + "0" * 64
    read = loaded(
        tmp_path,
        {
            "controller": {
                "data": "var",
                "listen": {"host": "::", "port": 0,
                           "tls": {"certificate": "tls.pem", "private_key": str(pem)}},
                "tokens": [{"name": "w", "role": "worker", "hash": digest, "tags": ["a"]}],
                "log": {"level": "debug", "format": "json"},
            }
        },
    ).controller  # fmt: skip
    assert read.data == tmp_path / "var"
    assert read.listen.tls is not None
    assert read.listen.tls.certificate == read.listen.tls.private_key == pem
    assert (read.tokens[0].role, read.tokens[0].tags) == (Role.WORKER, ("a",))
    assert loaded(tmp_path, "").controller.data == tmp_path / "roundsman-data"
    proxied = {"listen": {"host": "10.0.0.1", "behind_proxy": True},
               "tokens": [{"name": "w", "role": "worker", "hash": digest}]}  # fmt: skip
    assert loaded(tmp_path, {"controller": proxied}).controller.listen.behind_proxy


@pytest.mark.parametrize(
    ("password", "mode", "warned"),
    [("literal", 0o644, True), ("literal", 0o640, False), ("env:P", 0o644, False)],
)
def test_warns_of_secrets_that_everybody_may_read(
    tmp_path: Path, password: str, mode: int, warned: bool
) -> None:
    path = written(tmp_path, {"devices": {"x": {"credentials": {"user": "u", "pass": password}}}})
    path.chmod(mode)
    assert bool(load(path, environ={"P": "x"}).warnings) is warned


def test_warns_of_names_that_differ_in_capitals_alone(tmp_path: Path) -> None:
    devices: dict[str, Any] = {name: {} for name in ("edge1", "core1", "Edge1", "EDGE1", "Core1")}
    said = {"devices": devices, "jobs": {**job("show"), **job("Show")}}
    read = load(written(tmp_path, said), environ={})
    first, second = (text.partition(": ")[0] for text in read.warnings)
    assert first == "devices edge1 and Edge1 and EDGE1, and 1 more such"
    assert second == "jobs show and Show"


def test_a_fleet(tmp_path: Path) -> None:
    read = load(write_fleet(tmp_path / "fleet.yaml", devices=300, jobs=3, tag_sets=7), environ={})
    assert (len(read.devices), len(read.slots)) == (300, 900)
    assert len({device.tags for device in read.devices.values()}) == 7
    assert len({id(slot.job) for slot in read.slots.values()}) == 3


# Whatever the document, it is a configuration or a ConfigurationError.

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from(["a", "{{a}}", "{{", "(", "env:X", "file:x", "default", "* * * * *", "file",
                     "command", "simple", "regex_substitute", "\\1", "1 hour", "10.0.0.1"]),
)  # fmt: skip
words = st.one_of(
    st.sampled_from([*Device.__struct_fields__, *Job.__struct_fields__, *"ab", "default"]),
    st.sampled_from(
        ["generic", "port", "user", "pass", "ends_with", "jobs", "template_values", "cron",
         "timezone", "duration", "iso_8601", "fixed", "inline", "commands", "file", "files",
         "search", "replace", "expect", "enter", "listen", "tokens", "hash", "role", "log",
         "level", "tls"]
    ),
    st.text(max_size=4),
)  # fmt: skip
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=5)),
    max_leaves=25,
)
sections = ["devices", "jobs", "device_generics", "job_generics"]
shaped = st.fixed_dictionaries(
    {},
    optional={
        **{
            section: st.dictionaries(st.sampled_from(["a", "b", "default"]), anything, max_size=3)
            for section in sections
        },
        "controller": anything,
    },
)


def is_loaded_or_refused(path: Path) -> None:
    with contextlib.suppress(ConfigurationError):
        load(path, environ={"X": "x"})


@given(st.one_of(anything, shaped))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_document(tmp_path: Path, document: object) -> None:
    is_loaded_or_refused(written(tmp_path, document, "any.yaml"))
    is_loaded_or_refused(written(tmp_path, document, "any.json"))


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from([*"{}[]:,-&*!|>'\"#=\n \t\\.?~<", "a", "b: ", "- ", "[a]\n", "'''",
                             '"""',
                             "devices", "\\u", "jobs:\n a:\n", "\r", "é", "1"])
        ).map("".join),
    ),
    st.sampled_from(["yaml", "json", "toml"]),
)  # fmt: skip
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=300,
)
def test_any_text(tmp_path: Path, text: str, suffix: str) -> None:
    path = tmp_path / f"any.{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    is_loaded_or_refused(path)


def test_any_bytes(tmp_path: Path, rng: random.Random) -> None:
    for suffix in ("yaml", "json", "toml"):
        for _ in range(20):
            path = tmp_path / f"any.{suffix}"
            path.write_bytes(rng.randbytes(200))
            is_loaded_or_refused(path)


def test_a_large_fleet_is_read_in_little_memory(tmp_path: Path) -> None:
    file = write_fleet(tmp_path / "fleet.yaml", devices=1000, jobs=1)
    load(file, environ={})  # what is made once
    tracemalloc.start()
    try:
        fleet = load(file, environ={})
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fleet.slots) == 1000
    assert kept < 1000 * 1000
    assert most < 2200 * 1000


@pytest.mark.parametrize(
    "module", ["config.template", "documents.problems", "config.devices", "config.settings"]
)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"roundsman.{module}"))
    assert result.attempted
    assert not result.failed


def test_a_splay_gives_each_device_its_own_due_times(tmp_path: Path) -> None:
    schedule = {"cron": "0 2 * * *", "splay": "30 minutes"}
    site = {"jobs": job(schedule=schedule, priority="high"), "devices": {"x": {}, "y": {}}}
    for device in site["devices"].values():
        device["jobs"] = ["a"]
    read = loaded(tmp_path, site)
    x, y = (read.slots[name, "a"] for name in "xy")
    assert x.plan != y.plan
    for slot in (x, y):
        due = slot.schedule.next_after(0)
        assert due is not None
        assert 7200 <= due < 9000
        assert slot.priority is Priority.HIGH
    wrong = {"jobs": job(schedule={"fixed": 1, "splay": "half an hour"})}
    [problem] = problems(tmp_path, wrong)
    assert 'schedule.splay: splay "half an hour": expected' in problem


def test_limits_are_read(tmp_path: Path) -> None:
    limits = {"tags": {"dallas": {"sessions": 20, "starts_per_minute": 60}}}
    read = loaded(tmp_path, {"controller": {"limits": limits}}).controller.limits
    assert read.tags["dallas"] == TagLimits(sessions=20, starts_per_minute=60)
    assert (read.sessions_per_device, read.sessions_per_worker) == (1, None)
    [problem] = problems(tmp_path, {"controller": {"limits": {"tags": {"x": {"sesions": 1}}}}})
    assert "controller.limits.tags.x.sesions" in problem
