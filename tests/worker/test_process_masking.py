import random

import pytest

from roundsman.worker.runners.process_masking import Masker, Secrets

TEXTS = ("s3cret-of-mine", "s3cret", "aaaaab", "kéy-ünïcode", "line one of a private key\nline two")


def masked(texts: tuple[str, ...], *pieces: bytes) -> bytes:
    masker = Masker(Secrets(texts))
    return b"".join(map(masker.feed, pieces)) + masker.end()


@pytest.mark.parametrize("secret", TEXTS)
def test_no_secret_passes_wherever_it_is_cut(secret: str) -> None:
    text = f"before {secret} after {secret}{secret}.".encode()
    whole = masked(TEXTS, text)
    assert secret.encode() not in whole
    assert whole == masked(TEXTS, *(bytes([byte]) for byte in text))
    for cut in range(len(text)):
        assert masked(TEXTS, text[:cut], text[cut:]) == whole


def test_what_is_no_secret_passes_unchanged_and_at_once() -> None:
    masker = Masker(Secrets(TEXTS))
    assert masker.feed(b"ready\n") == b"ready\n"
    assert masker.feed(b"aaaaa") == b""
    assert masker.feed(b"aaa") == b"aaa"
    assert masker.feed(b"c") == b"aaaaac"


def test_a_line_of_a_long_secret_is_one_and_a_short_text_is_none() -> None:
    assert masked(TEXTS, b"> line one of a private key <") == b"> ******** <"
    assert masked(("ab1",), b"ab1") == b"ab1"


def test_random_pieces_come_to_the_same() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    text = b"".join(chance.choice([b"a", b"s3cre", b"t", b"aaaaab", b"x\n"]) for _ in range(2000))
    pieces, rest = [], text
    while rest:
        length = chance.randrange(1, 20)
        pieces.append(rest[:length])
        rest = rest[length:]
    joined = masked(TEXTS, *pieces)
    assert b"aaaaab" not in joined
    assert b"s3cret" not in joined


def test_what_is_learnt_later_is_masked_from_then_on() -> None:
    secrets = Secrets()
    masker = Masker(Secrets(("first",)), secrets)
    assert masker.feed(b"first later") == b"******** later"
    secrets.add(["later"])
    assert masker.feed(b" later first.") == b" ******** ********."
