import random
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from roundsman.archive.deltas import delta_in_place
from roundsman.archive.objects import TREE, object_id
from roundsman.archive.trees import FILE_MODE, TREE_MODE, Tree, encode_tree

NAMES = st.text(st.sampled_from("ab-./0_Z"), min_size=1, max_size=4).map(
    lambda text: text.replace("/", "+").encode()
)
IDS = st.binary(min_size=20, max_size=20)
SETS = st.tuples(NAMES, st.sampled_from([FILE_MODE, TREE_MODE]), IDS)
CHANGES = st.lists(st.one_of(SETS, NAMES), max_size=60)


def applied(old: bytes, script: bytes) -> bytes:
    """What git makes of a delta."""
    position = 0

    def number() -> int:
        nonlocal position
        value, shift = 0, 0
        while True:
            byte = script[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    assert number() == len(old)
    size = number()
    out = bytearray()
    while position < len(script):
        code = script[position]
        position += 1
        if code < 0x80:
            assert code
            out += script[position : position + code]
            position += code
            continue
        values = [0] * 7
        for bit in range(7):
            if code >> bit & 1:
                values[bit] = script[position]
                position += 1
        offset = int.from_bytes(values[:4], "little")
        length = int.from_bytes(values[4:], "little") or 0x10000
        assert offset + length <= len(old)
        out += old[offset : offset + length]
    assert len(out) == size
    return bytes(out)


def change(tree: Tree, step: tuple[bytes, bytes, bytes] | bytes) -> None:
    if isinstance(step, bytes):
        tree.remove(step)
    else:
        tree.set(*step)


@given(CHANGES, st.lists(CHANGES, max_size=4))
def test_a_tree_is_what_git_sorts_and_its_deltas_make_it(
    first: list[tuple[bytes, bytes, bytes] | bytes],
    later: list[list[tuple[bytes, bytes, bytes] | bytes]],
) -> None:
    tree = Tree()
    expected: dict[bytes, tuple[bytes, bytes]] = {}
    for steps in [first, *later]:
        before = bytes(tree.raw)
        tree = tree.copy()
        for step in steps:
            change(tree, step)
            if isinstance(step, bytes):
                expected.pop(step, None)
            else:
                expected[step[0]] = step[1:]
        assert tree.raw == encode_tree((name, *said) for name, said in expected.items())
        assert applied(before, tree.take_delta()) == tree.raw
        assert dict(tree.entries()) == expected
        assert all(tree.get(name) == said for name, said in expected.items())
    assert tree.get(b"not there") is None


@given(st.randoms(use_true_random=False))
def test_a_large_tree_is_changed_in_place(rng: random.Random) -> None:
    names = [b"device-%d" % number for number in range(400)]
    expected = {name: (TREE_MODE, bytes(20)) for name in names}
    tree = Tree(encode_tree((name, *said) for name, said in expected.items()))
    for _ in range(5):
        before = bytes(tree.raw)
        for _ in range(rng.randrange(6)):
            name = rng.choice(names)
            if rng.random() < 0.2:
                tree.remove(name)
                expected.pop(name, None)
            else:
                mode = TREE_MODE if rng.random() < 0.9 else FILE_MODE
                expected[name] = (mode, rng.randbytes(20))
                tree.set(name, *expected[name])
        assert tree.raw == encode_tree((name, *said) for name, said in expected.items())
        assert applied(before, tree.take_delta()) == tree.raw


def test_a_copy_is_changed_apart() -> None:
    tree = Tree(encode_tree((b"d%d" % number, TREE_MODE, bytes(20)) for number in range(100)))
    before = bytes(tree.raw)
    other = tree.copy()
    other.set(b"d50", TREE_MODE, b"\1" * 20)
    other.set(b"new", TREE_MODE, b"\1" * 20)
    assert tree.raw == before
    assert tree.get(b"d50") == (TREE_MODE, bytes(20))
    assert tree.get(b"new") is None


def test_a_name_within_an_id_is_not_found() -> None:
    tree = Tree()
    for number in range(40):
        tree.set(b"n%d" % number, FILE_MODE, b"100644 x" + bytes(1) + b"100644 x" + bytes(3))
    assert tree.get(b"x") is None
    tree.set(b"x", FILE_MODE, bytes(20))
    assert tree.get(b"x") == (FILE_MODE, bytes(20))


def test_a_tree_of_5_000_entries_is_as_git_makes_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path], check=True)
    names = [f"device-{number * 7919 % 5000}" for number in range(5000)]
    tree = encode_tree((name.encode(), TREE_MODE, object_id(TREE, b"")) for name in names)
    lines = [f"040000 tree {object_id(TREE, b'').hex()}\t{name}" for name in names]
    made = subprocess.run(
        ["git", f"--git-dir={tmp_path}", "mktree", "--missing"],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=True,
    )
    assert made.stdout.decode().strip() == object_id(TREE, tree).hex()


def test_one_change_among_many_is_a_short_delta() -> None:
    tree = Tree(
        encode_tree((b"device-%d" % number, TREE_MODE, bytes(20)) for number in range(5000))
    )
    tree.set(b"device-2500", TREE_MODE, b"\1" * 20)
    assert len(tree.take_delta()) < 50
    assert len(tree.take_delta()) < 20


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 299), st.binary(max_size=40))))
def test_what_changed_where_it_stood(old: bytes, changes: list[tuple[int, bytes]]) -> None:
    new = bytearray(old)
    for start, piece in changes:
        room = len(new[start : start + len(piece)])
        new[start : start + room] = piece[:room]
    assert applied(old, delta_in_place(old, bytes(new))) == new


def test_one_id_of_a_large_tree_is_a_small_delta() -> None:
    old = random.Random(1).randbytes(200_000)
    new = old[:100_000] + bytes(20) + old[100_020:]
    delta = delta_in_place(old, new)
    assert applied(old, delta) == new
    assert len(delta) < 100
