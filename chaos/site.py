"""The site: which cluster may be broken, how to look at it, and what can be done to its nodes.

One YAML file, e.g.:

    namespace: chaos
    prometheus: http://127.0.0.1:9090
    alertmanager: http://127.0.0.1:9093
    healer:
      url: http://127.0.0.1:8081
      token_file: viewer.token
      pause_token_file: operator.token
    hooks:
      freeze_node: [ssh, '{node}', sudo, systemctl, kill, -s, STOP, kubelet]
"""

import subprocess
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaos.errors import ChaosError, NotPossible

HookName = Literal[
    "freeze_node", "thaw_node", "kill_node", "restore_node", "blind_prometheus", "sight_prometheus",
    "slow_api", "fast_api", "kill_healer", "start_healer",
]  # fmt: skip
#: A hook that takes longer than this has failed. Seconds.
HOOK_SECONDS = 120.0


class Section(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HealerAccess(Section):
    """How to ask healer what it did, and how to switch it off for the control runs."""

    url: str
    token_file: Path | None = None
    """A viewer's token."""
    pause_token_file: Path | None = None
    """An operator's token, used only to pause healer for control runs."""
    webhook: str = ""
    """Where Alertmanager posts, e.g. `http://healer:8080/v1/alertmanager`."""
    webhook_token_file: Path | None = None


class VictimImage(Section):
    """What the victims run: the shipped small service, or an image with the same routes."""

    image: str = "python:3.12-alpine"
    shipped: bool = True
    """Mount `victim_app.py` and run it with the image's Python; false: the image is the service."""


class Site(Section):
    """Where experiments run."""

    context: str = ""
    kubeconfig: Path | None = None
    namespace: str
    prometheus: str
    alertmanager: str = ""
    healer: HealerAccess
    victim: VictimImage = VictimImage()
    pages: str = ""
    """URL of a JSON list of the pages people got (`at`, `reason`); unset: pages are not judged."""
    audit_log: Path | None = None
    """The API server's audit log, when it can be read here."""
    hooks: dict[HookName, list[str]] = Field(default_factory=dict)
    """Commands for what no API offers; `{node}` is filled in."""
    claims: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Per experiment: what this site expects instead, e.g. `{crash-loop: {alert: KubePod…}}`."""

    def lacks(self, names: list[str]) -> list[str]:
        """Those of the hooks that are not declared here."""
        return [name for name in names if name not in self.hooks]

    def hook(self, name: HookName, **values: str) -> None:
        """Run a declared command; raises NotPossible without one and ChaosError if it fails."""
        words = self.hooks.get(name)
        if words is None:
            raise NotPossible(f"not possible here: declare `hooks.{name}` in the site file")
        command = [word.format(**values) for word in words]
        try:
            done = subprocess.run(  # noqa: S603 - the site's owner declared it
                command, capture_output=True, text=True, timeout=HOOK_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChaosError(f"hooks.{name}: {error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise ChaosError(f"hooks.{name} ended with {done.returncode}: {said}")


def read_site(path: Path, *, context: str) -> Site:
    """The site of a YAML file, for the named context; ChaosError names what is wrong in it."""
    if not context:
        raise ChaosError("name the cluster: --context NAME (the current context is never taken)")
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ChaosError(
            f"{path}: {error.strerror}; write a site file, see docs/chaos.md"
        ) from error
    except yaml.YAMLError as error:
        raise ChaosError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ChaosError(f"{path}: a mapping is expected; see docs/chaos.md")
    try:
        return Site.model_validate({**content, "context": context})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise ChaosError(f"{path}: {faults}; see docs/chaos.md") from error
