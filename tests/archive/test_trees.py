import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from roundsman.archive.objects import TREE, object_id
from roundsman.archive.trees import FILE_MODE, TREE_MODE, Tree, delta

NAMES = st.text(st.sampled_from("ab-./0_Z"), min_size=1, max_size=4).map(
    lambda text: text.replace("/", "+").encode()
)
CHANGES = st.lists(
    st.tuples(NAMES, st.sampled_from([FILE_MODE, TREE_MODE]), st.binary(min_size=20, max_size=20)),
    max_size=400,
)


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
        out += old[offset : offset + length]
    assert len(out) == size
    return bytes(out)


@given(CHANGES, CHANGES)
def test_a_delta_makes_the_new_tree(
    first: list[tuple[bytes, bytes, bytes]], second: list[tuple[bytes, bytes, bytes]]
) -> None:
    old = Tree()
    for change in first:
        old.set(*change)
    new = old.copy()
    before = old.raw()
    expected = {name: (mode, blob) for name, mode, blob in first}
    for name, mode, blob in second:
        new.set(name, mode, blob)
        expected[name] = (mode, blob)
    assert old.raw() == before
    assert applied(before, delta(old, new)) == new.raw()
    assert Tree(new.raw()).raw() == new.raw()
    for name, (mode, blob) in expected.items():
        entry = new.get(name)
        assert entry is not None
        assert (entry.mode, entry.id) == (mode, blob)


def test_a_tree_of_5_000_entries_is_as_git_makes_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path], check=True)
    tree = Tree()
    lines = []
    for number in range(5000):
        name = f"device-{number * 7919 % 5000}"
        blob = object_id(TREE, b"")
        tree.set(name.encode(), TREE_MODE, blob)
        lines.append(f"040000 tree {blob.hex()}\t{name}")
    made = subprocess.run(
        ["git", f"--git-dir={tmp_path}", "mktree", "--missing"],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=True,
    )
    assert made.stdout.decode().strip() == object_id(TREE, tree.raw()).hex()


def test_one_change_among_many_is_a_short_delta() -> None:
    tree = Tree()
    for number in range(5000):
        tree.set(b"device-%d" % number, TREE_MODE, bytes(20))
    changed = tree.copy()
    changed.set(b"device-2500", TREE_MODE, b"\1" * 20)
    assert len(delta(tree, changed)) < 60
