"""Encoding and decoding of the records, with secrets in the clear.

Only what goes to a worker, or comes from a trusted file, passes through here. Logs, pages and
lists never do: they have no hook for `Secret`, so that encoding one by mistake is an error.
"""

from typing import Any, TypeVar

import msgspec

from roundsman.secret import Secret


def _reveal(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"objects of type {type(value).__name__} do not travel")


def _wrap(wanted: type, value: Any) -> Any:
    if wanted is Secret:
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        return Secret(value)
    raise NotImplementedError(f"objects of type {wanted.__name__} do not travel")


T = TypeVar("T")

_encoder = msgspec.json.Encoder(enc_hook=_reveal)


def encode(record: object) -> bytes:
    """A record as JSON, secrets in the clear."""
    return _encoder.encode(record)


def decoder(wanted: type[T]) -> "msgspec.json.Decoder[T]":
    """A decoder of JSON into `wanted`; unknown fields are ignored, wrong ones raise."""
    return msgspec.json.Decoder(wanted, dec_hook=_wrap)


def convert(value: object, wanted: type[T]) -> T:
    """Plain data (mappings, lists, texts) into `wanted`; wrong data raises `ValidationError`."""
    return msgspec.convert(value, wanted, dec_hook=_wrap)
