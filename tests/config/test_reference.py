from pathlib import Path

import msgspec

from scripts.generate_reference import PAGES, REFERENCE, SECTIONS
from tests.config.files import loaded


def test_pages_are_up_to_date() -> None:
    """When this fails: python -m scripts.generate_reference configuration http-api."""
    for name, page in PAGES.items():
        assert (REFERENCE / f"{name}.md").read_text() == page()


def test_every_record_of_a_file_is_on_the_page() -> None:
    def within(kind: msgspec.inspect.Type) -> set[type]:
        found: set[type] = set()
        if isinstance(kind, msgspec.inspect.StructType):
            found.add(kind.cls)
            for field in kind.fields:
                found |= within(field.type)
        for inner in (
            *getattr(kind, "types", ()),
            *filter(None, (getattr(kind, "item_type", None), getattr(kind, "value_type", None))),
        ):
            found |= within(inner)
        return found

    shown = {record for _, record in SECTIONS}
    needed = within(msgspec.inspect.type_info(SECTIONS[0][1]))
    assert {record.__name__ for record in needed - shown} == {"JobOverride"}


def test_the_example_of_the_how_to_on_files(tmp_path: Path) -> None:
    text = (REFERENCE.parent / "how-to" / "files.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    read = loaded(tmp_path, example, environ={"DEVICE_PASSWORD": "x"})
    transfers = {key[1]: slot.job.file_set for key, slot in read.slots.items()}
    assert {name: files and files.transfer for name, files in transfers.items()} == {
        "startup": "scp",
        "archive": "sftp",
        "switch": "https",
    }


def test_the_example_of_the_explanation_is_a_configuration(tmp_path: Path) -> None:
    text = (REFERENCE.parent / "explanation" / "configuration.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    read = loaded(tmp_path, example, environ={"BACKUP_PASSWORD": "x"})
    schedules = {key: slot.job.schedule for key, slot in read.slots.items()}
    jobs = {key: said.cron or said.duration for key, said in schedules.items()}
    assert jobs == {
        ("edge1.dallas", "running_config"): "0 3 * * *",
        ("edge2.dallas", "running_config"): "30 3 * * *",
        ("edge2.dallas", "vlan"): "15 minutes",
    }
