"""Secrets by reference: `env:NAME`, `file:PATH`, or the secret itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from roundsman.secret import Secret

_LARGEST: Final = 1 << 20  # bytes; a long private key has some 3,000


class Secrets:
    """Fetches what references stand for, each once."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        """Take the environment, and the folder that paths are relative to."""
        self._environ = environ
        self._folder = folder
        self._fetched: dict[str, Secret] = {}
        self.literal = False
        """Whether any was given as it is."""

    def fetch(self, reference: str) -> Secret:
        """The secret. Raises `ValueError` that names the reference when there is none."""
        kind, separator, name = reference.partition(":")
        if not separator or kind not in ("env", "file"):
            self.literal = True
            if not reference:
                raise ValueError("it is empty")
            return Secret(reference)
        if reference not in self._fetched:
            text = self._variable(name) if kind == "env" else self.read(name)
            self._fetched[reference] = Secret(text)
        return self._fetched[reference]

    def _variable(self, name: str) -> str:
        text = self._environ.get(name)
        if not text:
            raise ValueError(
                f"environment variable {name} is {'not set' if text is None else 'empty'}"
            )
        return text

    def read(self, name: str) -> str:
        """What a file holds. Raises `ValueError` that names it when that is not possible."""
        try:
            with (self._folder / name).open("rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ValueError(f"file {name} is larger than {_LARGEST} bytes")
            text = data.decode().removesuffix("\n")
        except OSError as error:
            raise ValueError(f"cannot read file {name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"file {name} is not UTF-8 text") from None
        except ValueError as error:
            if "null byte" in str(error):
                raise ValueError(f"cannot read file {name!r}: not a path") from None
            raise
        if not text:
            raise ValueError(f"file {name} is empty")
        return text
