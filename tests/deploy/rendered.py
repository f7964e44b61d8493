"""What kustomize makes of `deploy/`."""

import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.bed.builds import binary

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
Objects = list[dict[str, Any]]

#: Components that grant rights, by the class of actions.
GROUPS = tuple(sorted(p.parent.name for p in (DEPLOY / "components").glob("*/cluster-role.yaml")))


def build(folder: Path) -> Objects:
    """Every object of a kustomization."""
    done = subprocess.run(
        [str(binary("kustomize")), "build", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


@cache
def base() -> Objects:
    """The default install."""
    return build(DEPLOY / "base")


def compose(folder: Path, components: Iterable[str], **more: Any) -> Objects:
    """The default install with components, put together in an (empty) folder as a user would."""
    return build(overlay(folder, components, **more))


def overlay(folder: Path, components: Iterable[str], **more: Any) -> Path:
    """An overlay of the base in `folder`, not yet rendered."""
    folder.mkdir(parents=True, exist_ok=True)

    def towards(path: Path) -> str:
        return str(Path(*[".."] * len(folder.resolve().parts[1:])) / path.relative_to("/"))

    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [towards(DEPLOY / "base"), *more.pop("resources", ())],
        "components": [towards(DEPLOY / "components" / one) for one in components],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def of_kind(objects: Sequence[dict[str, Any]], kind: str) -> Objects:
    """Those of one kind."""
    return [one for one in objects if one["kind"] == kind]


def the(objects: Sequence[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """The one of its kind (and name)."""
    found = [o for o in of_kind(objects, kind) if not name or o["metadata"]["name"] == name]
    assert len(found) == 1, [o["metadata"]["name"] for o in of_kind(objects, kind)]
    return found[0]


def pod_of(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The pod template's spec of the one Deployment."""
    spec: dict[str, Any] = the(objects, "Deployment")["spec"]["template"]["spec"]
    return spec
