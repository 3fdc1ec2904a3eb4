"""A platform: what a session needs to know of a device's operating system, as data.

Patterns are regular expressions over what the device draws as text: no escape sequences, no
carriage returns, trailing blanks of a line removed. `^` and `$` match at each line.
"""

import msgspec


class Pager(msgspec.Struct, frozen=True, kw_only=True):
    """A pager that stops the output until a key is pressed."""

    pattern: str
    """Matches, from its beginning to its end, the line at which the device waits (blanks around
    it aside), such as `--More--`."""
    key: str = " "
    """What is sent for the next page, exactly as it stands."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the device asks, and the answer."""

    pattern: str
    """Found in the line at which the device waits, such as `Press any key to continue`; or in the
    last lines with it, if it reaches over line ends."""
    answer: str
    r"""What is sent, exactly as it stands: with `\n` where the device wants the Enter key."""


class Enable(msgspec.Struct, frozen=True, kw_only=True):
    """How the privileged mode is reached."""

    prompt: str
    """Matches the whole line of a privileged prompt. Where the prompt after login matches,
    nothing is to be done."""
    command: str = "enable"
    """The command that leads there."""
    password: str = r"(?i)password:\s*$"  # noqa: S105 - how a device asks, not a password
    """Found in the line in which the device asks for the password. It is answered by the `enable`
    secret of the credentials, or their password where they have none."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """The questions at a login in the terminal: over Telnet, or once more after that of SSH."""

    user: str = r"(?i)(?:user ?name|login|user):\s*$"
    """Found in the line in which the device asks for the user name."""
    password: str = r"(?i)password:\s*$"  # noqa: S105 - how a device asks, not a password
    """Found in the line in which the device asks for the password."""
    failed: str = (
        r"(?i)(?:login|authentication|authorization|access) (?:incorrect|invalid|failed|denied)"
        r"|(?:bad|invalid|incorrect) (?:user|password|login|credentials)"
    )
    """Found in a line that says that user or password were not accepted."""


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker's session needs to know of a device's operating system."""

    name: str
    """Such as `ios`; for people."""
    prompts: tuple[str, ...] = ()
    """Each matches the whole line of a prompt, in any mode. A prompt is learned only from a line
    that one of them matches; any line that ends as prompts do is considered where there are
    none."""
    login: Login = Login()
    """The questions at a login in the terminal."""
    questions: tuple[Question, ...] = ()
    """What may be asked before the first prompt, or in the middle of a command: keys to press,
    menus, banners to acknowledge, confirmations."""
    expired: tuple[str, ...] = ()
    """Each is found in a line before the first prompt that says that the password has expired and
    must be changed; the run then fails."""
    enable: Enable | None = None
    """How the privileged mode is reached; none where there is no such mode."""
    setup: tuple[str, ...] = ()
    """Commands sent after login and enable, such as those that switch paging off. A complaint of
    the device about one of them is passed over."""
    more: tuple[Pager, ...] = ()
    """Pagers that may appear all the same. Their lines are removed from the output."""
    notices: tuple[str, ...] = ()
    """Each is found in a line that the device writes into the terminal by itself, such as a line of
    its log. Such a line may come after a prompt, and the prompt need not come again after it."""
    errors: tuple[str, ...] = ()
    """Each is found in the first ten lines of an output that means that the command was
    rejected."""
    logout: tuple[str, ...] = ("exit",)
    """Commands that end the session, one after the other."""
    exec: bool = False
    """Commands are run one by one without a shell: each in an SSH channel of its own."""
    line_end: str = "\n"
    r"""What the Enter key sends, such as `\r`."""
