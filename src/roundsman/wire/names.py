"""The names of devices and jobs, and which are allowed.

A name becomes a path component in the archive, a URL component and a multipart filename, so it
is limited to what is safe in each of them, everywhere.
"""

import re
from typing import Final

NAME_RULE: Final = (
    "1 to 200 characters: letters, digits, space and . _ - : @ + with a letter, digit or _ first "
    "and no space or dot last"
)
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9 ._:@+-]{0,198}[A-Za-z0-9_:@+-])?")


def is_valid_name(name: str) -> bool:
    """Whether `name` may name a device or a job (see `NAME_RULE`).

    >>> is_valid_name("edge1.dallas"), is_valid_name("2001:db8::1"), is_valid_name("_core")
    (True, True, True)
    >>> is_valid_name("../x"), is_valid_name(".git"), is_valid_name("a/b"), is_valid_name("")
    (False, False, False, False)
    """
    return _NAME.fullmatch(name) is not None
