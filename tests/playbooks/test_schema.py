"""The JSON Schema on disk is the one of this build, and agrees with the loader."""

import json
from pathlib import Path

import pytest

from healer.playbook_yaml import Registry, find_shipped
from healer.playbook_yaml.schema import FILE_NAME, playbook_schema, schema_text, write
from healer.playbook_yaml.yaml_text import read

from .draft07 import complaints

SHIPPED = sorted(find_shipped().glob("*.yaml"))


@pytest.fixture(scope="module")
def schema(registry: Registry) -> dict[str, object]:
    return playbook_schema(registry)


def found(schema: dict[str, object], text: str) -> list[str]:
    return list(complaints(schema, read(text, "x.yaml").value))


def test_the_file_is_current(registry: Registry) -> None:
    """The schema beside the playbooks is what `python -m healer.playbook_yaml.schema` writes."""
    on_disk = (find_shipped() / FILE_NAME).read_text()
    assert on_disk == schema_text(registry), "run: python -m healer.playbook_yaml.schema"


def test_it_is_written_where_it_is_told(tmp_path: Path, registry: Registry) -> None:
    """Writing the schema makes one JSON file in the folder named."""
    file = write(tmp_path, registry)
    assert list(tmp_path.iterdir()) == [file]
    assert json.loads(file.read_text())["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_the_good_playbook_passes(schema: dict[str, object], good: str) -> None:
    """What the loader accepts, the schema accepts."""
    assert found(schema, good) == []


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_playbook_passes(schema: dict[str, object], file: Path) -> None:
    """An editor shows no fault in a playbook that comes with healer."""
    assert found(schema, file.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("cooldown: 15m", "coldown: 15m", "$.spec.guards.coldown"),
        ("cooldown: 15m", "cooldown: 15", "$.spec.guards.cooldown"),
        ("mode: approve", "mode: 'yes'", "$.spec.mode"),
        ("delete_pod", "delete_pods", "$.spec.steps[0].action"),
        ("grace: 10s", "grase: 10s", "$.spec.steps[0].with.grase"),
        ("grace: 10s", "grace: soon", "$.spec.steps[0].with.grace"),
        ("alert_resolved: {}", "x: {}", "$.spec.steps[0].verify.probes[0].x"),
        ("{owner: 3/1h}", "{owners: 3/1h}", "$.spec.guards.budgets.owners"),
        ("{owner: 3/1h}", "{owner: 3}", "$.spec.guards.budgets.owner"),
        ("  when:\n", "  when:\n    query: {expr: up}\n", "$.spec.when"),
        ("    kind: Pod\n", "    kind: Pot\n", "$.spec.target.kind"),
        ("  name: replace-pod\n", "  name: Replace_Pod\n", "$.metadata.name"),
    ],
)  # fmt: skip
def test_what_the_loader_refuses_by_shape_the_schema_marks_too(
    old: str, new: str, place: str, schema: dict[str, object], good: str
) -> None:
    """A fault of shape is marked at its place in the editor."""
    assert old in good
    marks = found(schema, good.replace(old, new, 1))
    assert any(mark.startswith(place + ":") for mark in marks), marks


def test_a_placeholder_may_stand_for_a_number(schema: dict[str, object], good: str) -> None:
    """A text with a placeholder is accepted where an action wants a number."""
    assert found(schema, good.replace("grace: 10s", "grace: '${labels.grace}'")) == []


def test_an_action_with_a_required_parameter_demands_with(
    schema: dict[str, object], good: str
) -> None:
    """Leaving out `with` is marked when the action needs a parameter."""
    text = good.replace(
        "      action: delete_pod\n      with: {grace: 10s}", "      action: run_job"
    )
    assert any("lacks with" in mark for mark in found(schema, text))
