"""Where results stand in the repository, as templates of paths say it."""

from collections.abc import Sequence
from typing import Final

from roundsman.wire.names import is_valid_name
from roundsman.wire.paths import DEFAULT_PATH, PathTemplate

FLAT: Final = DEFAULT_PATH
SHARDED: Final = "by_device/{shard}/{device}/{job}"


class Layout:
    """Some templates; the first without `{tag}` is where a result is looked for."""

    def __init__(self, templates: Sequence[str]) -> None:
        """Take templates that the configuration has found to be right."""
        self.texts = tuple(templates)
        parsed = [PathTemplate.parse(text) for text in templates]
        self._main = next(template for template in parsed if not template.uses("tag"))
        self._plain = [
            template for template in parsed if not template.uses("tag") and template != self._main
        ]
        self.tagged = [template for template in parsed if template.uses("tag")]
        """Templates of which a device has one path for each of its tags."""

    def path(self, device: str, job: str) -> bytes:
        """Where a result is looked for."""
        return self._main.path(device, job).encode()

    def copies(self, device: str, job: str, tags: Sequence[str]) -> list[bytes]:
        """Where else it stands."""
        if not self._plain and not self.tagged:
            return []
        paths = [template.path(device, job) for template in self._plain]
        paths += [template.path(device, job, tag) for template in self.tagged for tag in tags]
        return [path.encode() for path in paths]

    def pair(self, path: bytes) -> tuple[str, str] | None:
        """Whose result is looked for at a path; none for any other path.

        >>> Layout([FLAT]).pair(b"by_device/edge1/show_run"), Layout([FLAT]).pair(b"README.md")
        (('edge1', 'show_run'), None)
        """
        values = self._main.match(path.decode(errors="replace"))
        if values is None or not all(map(is_valid_name, (values["device"], values["job"]))):
            return None
        pair = (values["device"], values["job"])
        return pair if self.path(*pair) == path else None

    def owner(self, path: bytes) -> tuple[str, str] | None:
        """Whose result stands at a path, be it where it is looked for or a copy."""
        text = path.decode(errors="replace")
        for template in (self._main, *self._plain, *self.tagged):
            values = template.match(text)
            if values is not None and is_valid_name(values["device"]):
                again = template.path(values["device"], values["job"], values.get("tag", ""))
                if again == text:
                    return values["device"], values["job"]
        return None

    def meaning(self, folder: bytes) -> tuple[str | None, str | None]:
        """The variables that a folder and what is in it are named by; none for plain text.

        >>> Layout([SHARDED]).meaning(b"by_device/b4")
        ('shard', 'device')
        """
        texts = folder.decode(errors="replace").split("/") if folder else []
        found = set()
        for template in (self._main, *self._plain, *self.tagged):
            above = template.parts[: len(texts)]
            if len(template.parts) > len(texts) and all(
                part.variable is not None or part.before == text
                for part, text in zip(above, texts, strict=True)
            ):
                own = above[-1].variable if above else None
                found.add((own, template.parts[len(texts)].variable))
        return found.pop() if len(found) == 1 else (None, None)
