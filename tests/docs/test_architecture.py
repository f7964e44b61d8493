"""docs/architecture.md and docs/safety.md name only what is there, and name every module."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from healer.actions.registry import ACTIONS
from healer.cli.reference import settings_rows
from healer.domain.protection import PROTECT_ANNOTATION, PROTECTED_APPS, PROTECTED_NAMESPACES
from healer.playbook_yaml.model import GuardsShape
from healer.probes.registry import PROBES

ROOT = Path(__file__).parents[2]
PAGES = ("architecture.md", "safety.md")
#: A dotted name as the pages write it: `engine.worker.tick`, perhaps with `()`.
_DOTTED = re.compile(r"(_*[a-z]\w*(?:\.\w+)+)(?:\(\)|: \S+)?")
_FILE = re.compile(r"[\w./-]+\.(py|md|yaml|sql|toml|json)|[\w.-]+(/[\w.-]+)+/?")
_TEST = re.compile(r"test_\w+")
#: Look like files and are words of Kubernetes, or of the settings.
_NO_FILES = frozenset({"app.kubernetes.io/name", "Kind/namespace/name"})
_SETTINGS = frozenset(row.key for row in settings_rows())


def spans(page: str) -> list[str]:
    """What stands between backticks outside of code blocks."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def resolve(dotted: str) -> object:
    """The module, class or function of this name below `healer`. Raises LookupError."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(("healer", *parts[:cut])))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[cut:]:
                found = getattr(found, name)
        except AttributeError as error:
            raise LookupError(f"{dotted}: {error}") from error
        return found
    raise LookupError(f"{dotted}: no such module")


def modules() -> set[str]:
    """Every module below `healer`, dotted, without packages themselves."""
    home = ROOT / "healer"
    found = {".".join(file.relative_to(home).with_suffix("").parts) for file in home.rglob("*.py")}
    return {name for name in found if not name.endswith("__init__")}


def listed() -> set[str]:
    """What the table of rooms names."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.split("## Rooms")[1].split("\n## ")[0]
    return set(re.findall(r"`([\w.]+)`", table))


@pytest.mark.parametrize("page", PAGES)
def test_every_name_on_the_page_is_there(page: str) -> None:
    """Each dotted name and file between backticks is a setting, can be imported, or exists."""
    wrong = []
    checked = 0
    for span in spans(page):
        if span in _NO_FILES:
            continue
        dotted = _DOTTED.fullmatch(span)
        if _FILE.fullmatch(span):
            checked += 1
            if not (ROOT / span).exists():
                wrong.append(f"{span}: no such file")
        elif dotted is not None and dotted[1] not in _SETTINGS:
            checked += 1
            try:
                resolve(dotted[1])
            except LookupError as error:
                wrong.append(str(error))
    assert wrong == []
    assert checked > 20


def test_every_module_has_a_room() -> None:
    """No module of healer is missing from the table of rooms; verbs and probes speak by name."""
    by_name = {type(one).__module__.removeprefix("healer.") for one in ACTIONS.values()}
    by_name |= {type(one).__module__.removeprefix("healer.") for one in PROBES.values()}
    missing = modules() - listed() - by_name
    assert missing == set(), "name them in the table of rooms in docs/architecture.md"


def test_the_table_of_rooms_names_only_what_is_there() -> None:
    """Each name in the table is a module or package of healer, or a name in `ports`."""
    ports = importlib.import_module("healer.ports")
    for name in listed():
        if not hasattr(ports, name) and name != "healer":
            assert isinstance(resolve(name), ModuleType), name


def test_the_walk_passes_the_whole_way() -> None:
    """The walk names the door, the journal, the guard, the effect, the look and the end."""
    walk = (ROOT / "docs" / "architecture.md").read_text().split("## One alert")[1]
    way = (
        "web.webhook.Webhook.receive", "web.alertmanager.parse", "store.sqlite.writer.Writer",
        "engine.intake.Intake.round", "domain.episode.fold", "engine.worker.Worker.round",
        "engine.worker.tick", "engine.deciding.consider", "domain.selection.choose",
        "planning.resolve_target", "clients.kube.cluster.KubeCluster.observe",
        "planning.make_plan", "engine.survey.survey", "domain.guard.decide",
        "domain.verdict.Allow", "engine.acting.act", "engine.effects.settle",
        "engine.verifying.look", "domain.ladder.after_look", "engine.resting.close",
    )  # fmt: skip
    places = [walk.index(f"`{name}`") for name in way]
    assert places == sorted(places)


def test_the_layers_are_those_that_are_held() -> None:
    """The page lists the layers in the order in which import-linter holds them."""
    config = (ROOT / "pyproject.toml").read_text()
    held = re.findall(r'"([^"]+)"', config.split("layers = [")[1].split("]")[0])
    shown = (ROOT / "docs" / "architecture.md").read_text().split("## Layers")[1]
    block = shown.split("```")[1].strip().splitlines()
    assert [line.split("  ")[0] for line in block] == [one for one in held if one != "__main__"]


def test_the_page_lists_all_that_is_never_touched() -> None:
    """Every namespace, application and annotation that is compiled in stands on the page."""
    section = _safety().split("## What is never touched")[1].split("\n## ")[0]
    words = set(re.findall(r"[\w./-]+", section))
    assert words >= {*PROTECTED_NAMESPACES, *PROTECTED_APPS, PROTECT_ANNOTATION}


def test_every_test_that_is_named_is_there() -> None:
    """Each test that docs/safety.md points to exists in the file it is said to be in."""
    named = re.findall(r"`(tests/[\w/]+\.py)`((?:[ ,:]+`test_\w+`)*)", _safety())
    assert len(named) > 10
    for file, names in named:
        source = (ROOT / file).read_text()
        for name in _TEST.findall(names):
            assert re.search(rf"def {name}\(", source), f"{file} has no {name}"


def test_no_test_is_named_without_its_file() -> None:
    """Every `test_…` on the safety page stands right after its file, so that it is checked."""
    text = _safety()
    followed = re.findall(r"`tests/[\w/]+\.py`((?:[ ,:]+`test_\w+`)*)", text)
    checked = sum(len(_TEST.findall(names)) for names in followed)
    assert checked == len(re.findall(r"`test_\w+`", text))


def _safety() -> str:
    return (ROOT / "docs" / "safety.md").read_text()


def test_the_words_of_reasons_are_keys_of_playbooks() -> None:
    """Every `guards.…` that a reason's remedy names can be written in a playbook."""
    keys = {field.alias or name for name, field in GuardsShape.model_fields.items()}
    text = (ROOT / "docs" / "reasons.md").read_text()
    named = set(re.findall(r"`guards\.(\w+)`", text))
    assert named
    assert named <= keys
