"""Answers: what a device is told when it asks, at a login in the terminal and later."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from roundsman.wire.device import Credentials
from roundsman.worker.sessions.errors import AuthenticationError, EnableError, PromptError
from roundsman.worker.sessions.manners import Manners

_MOST_ANSWERS: Final = 100
"""So often is a session's device answered. One that asks on and on is given up."""

_MOST_USERS: Final = 3
"""So often is the user name given: an empty line may have been taken for one."""


class TerminalLogin:
    """A login in the terminal: user and password, each when asked for.

    Of several credentials the next are given once those before were refused, each at most once.
    """

    def __init__(self, credentials: Sequence[Credentials], *, awaited: bool) -> None:
        """`awaited` is whether the device is expected to ask, as over Telnet."""
        self._count = len(credentials)
        self._credentials = deque(credentials)
        self._first_asked = awaited
        self.awaited = awaited
        self.asked_for_user = False
        self.users_given = 0
        self.password_given = False
        self.refused = False
        """Whether the device said that what was given is wrong."""

    @property
    def credentials(self) -> Credentials:
        """What is being given."""
        return self._credentials[0]

    @property
    def user(self) -> str:
        """The user's name."""
        return self.credentials.user

    @property
    def password(self) -> bytes | None:
        """The password, if there is one."""
        password = self.credentials.password
        return password.reveal().encode() if password is not None else None

    @property
    def prompt_ends_with(self) -> str | None:
        """How the prompt after the login is known to end."""
        prompt = self.credentials.prompt
        return prompt.ends_with if prompt else None

    @property
    def tried(self) -> bool:
        """Whether anything of the credentials was given."""
        return self.password_given or self.users_given > 0

    @property
    def is_last(self) -> bool:
        """Whether there are no other credentials left."""
        return len(self._credentials) == 1

    def next(self, *, password_only: bool = False) -> bool:
        """Go on to the next credentials, if there are any.

        With `password_only` they must be of the same user, if the device knows who is to log in.
        """
        if self.is_last:
            return False
        if password_only and self.asked_for_user and self._credentials[1].user != self.user:
            return False
        self._credentials.popleft()
        self.users_given = 0
        self.password_given = self.refused = False
        return True

    def connect_again(self) -> bool:
        """Whether it is worthwhile to connect again, after a login that failed; then begin anew."""
        if not (self.tried and self.next()):
            return False
        self.asked_for_user = False
        self.awaited = self._first_asked
        return True

    def denied(self) -> AuthenticationError:
        """That the device accepted nothing."""
        if self._count == 1:
            text = f"the device did not accept the credentials of user {self.user!r}"
        else:
            text = f"the device accepted none of {self._count} credentials, last user {self.user!r}"
        return AuthenticationError(text, remedy="check user and pass of the device")


class Answers:
    """Finds questions, and the answers to them."""

    def __init__(self, manners: Manners) -> None:
        """Answer as the platform says."""
        self._manners = manners
        self._count = 0
        self._enabling = False
        self._enable_secret: bytes | None = None

    def enable_with(self, secret: bytes | None) -> None:
        """From now on the question for the password of the privileged mode is answered, once."""
        self._enabling = True
        self._enable_secret = secret

    def enabled(self) -> None:
        """No longer."""
        self._enabling = False

    def asked(self, before: bytes, line: bytes, login: TerminalLogin | None) -> bool:
        """Whether a line, with those before it, is a question."""
        return (
            self._asks_to_enable(line)
            or (login is not None and self._asks_to_log_in(line))
            or self._manners.question(before, line) is not None
        )

    def answer(self, before: bytes, line: bytes, login: TerminalLogin | None) -> bytes:
        """What to send to a line that is a question."""
        self._count += 1
        if self._count > _MOST_ANSWERS:
            raise PromptError(f"the device asked more than {_MOST_ANSWERS} questions")
        if self._asks_to_enable(line):
            return self._enable_answer() + self._manners.enter
        if login is not None and self._asks_to_log_in(line):
            return self._login_answer(line, login) + self._manners.enter
        question = self._manners.question(before, line)
        return question.answer.encode() if question else b""

    def check_greeting(self, finished: bytes, line: bytes, login: TerminalLogin | None) -> None:
        """Look at lines before the first prompt, and the one being written, for bad news."""
        text = finished + line
        if self._manners.expired(text):
            raise AuthenticationError(
                "the password has expired: the device wants another one before it goes on",
                remedy="change the password on the device, then in its credentials",
            )
        if login is not None and login.tried and self._manners.login.failed.found_in_output(text):
            login.refused = True
            if login.is_last:
                raise login.denied()

    def _asks_to_enable(self, line: bytes) -> bool:
        question = self._manners.enable_question
        return self._enabling and question is not None and question.found_in(line)

    def _asks_to_log_in(self, line: bytes) -> bool:
        patterns = self._manners.login
        return patterns.password.found_in(line) or patterns.user.found_in(line)

    def _enable_answer(self) -> bytes:
        if self._enable_secret is None:
            raise EnableError(
                "the device did not accept the password of its privileged mode, or asks for one "
                "where none is known",
                remedy="check the enable secret of the device's credentials",
            )
        secret, self._enable_secret = self._enable_secret, None
        return secret

    def _login_answer(self, line: bytes, login: TerminalLogin) -> bytes:
        login.awaited = False
        if self._manners.login.password.found_in(line):
            again = login.password_given or login.refused
            if again and not login.next(password_only=True):
                raise login.denied()
            if login.password is None:
                raise AuthenticationError(
                    f"the device asks for the password of user {login.user!r}, and none is known",
                    remedy="give the device's credentials a pass",
                )
            login.password_given = True
            return login.password
        login.asked_for_user = True
        again = login.password_given or login.refused or login.users_given == _MOST_USERS
        if again and not login.next():
            raise login.denied()
        login.users_given += 1
        login.awaited = login.password is not None
        return login.user.encode()
