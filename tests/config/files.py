"""Configuration files for tests."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from roundsman.config.load import load
from roundsman.config.records import Configuration
from roundsman.documents.problems import ConfigurationError


def written(folder: Path, text: object, name: str = "site.yaml") -> Path:
    """A file with that text; anything else is written as JSON, which is YAML too."""
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def loaded(
    folder: Path, text: object, name: str = "site.yaml", environ: Mapping[str, str] | None = None
) -> Configuration:
    return load(written(folder, text, name), environ=environ or {})


def problems(
    folder: Path, text: object, name: str = "site.yaml", environ: Mapping[str, str] | None = None
) -> list[str]:
    """Each problem as it is printed, the folder's name left out."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, name, environ)
    assert len(str(caught.value).splitlines()) >= len(caught.value.problems)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]
