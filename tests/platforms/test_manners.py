"""That the patterns of each platform do not get into each other's way."""

import pytest

from roundsman.platforms import load
from roundsman.platforms.load import Platform
from roundsman.worker.sessions.manners import Manners


@pytest.fixture(params=load.own_names())
def platform(request: pytest.FixtureRequest) -> Platform:
    return load.by_name(request.param)


def test_a_prompt_is_nothing_else(platform: Platform) -> None:
    manners = Manners(platform.session)
    for prompt in platform.file.examples.prompts:
        line = prompt.encode()
        assert manners.is_prompt(line)
        assert manners.question(b"", line) is None
        assert manners.pager(line) is None
        assert manners.complaint(line) is None
        assert not manners.login.user.found_in(line)
        assert not manners.login.password.found_in(line)
        assert not manners.expired(line)


def test_some_prompt_is_privileged_and_some_is_not(platform: Platform) -> None:
    manners = Manners(platform.session)
    if manners.enabled is None:
        return
    privileged = {manners.enabled.is_all_of(p.encode()) for p in platform.file.examples.prompts}
    assert privileged == {True, False}, "examples show both sides of the enable command"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cisco_aireos", "--More-- or (q)uit"),
        ("cisco_smb", "More: <space>,  Quit: q or CTRL+Z, One line: <return>"),
        ("dlink_dgs", "CTRL+C ESC q Quit SPACE n Next Page ENTER Next Entry a All"),
        ("extreme_exos", "Press <SPACE> to continue or <Q> to quit:"),
        ("extreme_ers", "----More (q=Quit, space/return=Continue)----"),
        ("fortinet_fortimanager", "--More--"),
        ("hpe_procurve", "-- MORE --, next page: Space, next line: Enter, quit: Control-C"),
        ("huawei_smartax", "---- More ( Press 'Q' to break ) ----"),
        ("huawei_vrp", "  ---- More ----"),
        ("juniper_screenos", "--- more ---"),
        ("paloalto_panos", "lines 1-23"),
        ("tplink_jetstream", "Press any key to continue (Q to quit)"),
        ("ubiquiti_edgeswitch", "--More-- or (q)uit"),
        ("vsol_olt", " --More-- "),
        ("zyxel_zynos", "-- more --, next page: Space, continue: c, quit: ESC"),
    ],
)
def test_pagers_are_known(name: str, line: str) -> None:
    assert Manners(load.by_name(name).session).pager(line.encode())


@pytest.mark.parametrize(
    ("name", "line", "answer"),
    [
        ("adva_fsp150", "Do you wish to continue [Y|N]-->", "y\r"),
        ("cisco_aireos", "Would you like to save them now? (y/N)", "n"),
        ("extreme_ers", "Enter Ctrl-Y to begin.", "\x19"),
        (
            "extreme_exos",
            "Do you wish to save your configuration changes to primary.cfg? (y or n)",
            "n\n",
        ),
        ("hpe_procurve", "Press any key to continue", " "),
        ("hpe_procurve", "Do you want to log out [y/n]?", "y"),
        ("huawei_smartax", "{ <cr>|backup<K> }:", "\n"),
        ("huawei_smartax", "Are you sure to log out? (y/n)[n]:", "y\n"),
        ("huawei_vrp", "The password needs to be changed. Change now? [Y/N]:", "n\n"),
        ("juniper_screenos", "Configuration modified, save? [y]/n", "n\n"),
        ("sophos_sfos", "    Select Menu Number [0-7]:", "4\n"),
    ],
)
def test_questions_are_answered(name: str, line: str, answer: str) -> None:
    question = Manners(load.by_name(name).session).question(b"", line.encode())
    assert question is not None
    assert question.answer == answer
