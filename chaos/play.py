"""One run of one experiment: what its probes and actions know, and what they have seen so far.

The Chaos Toolkit starts them in a process of its own; the environment variable CHAOS_PLAY names the
file that tells them who they are. What they note here is shared by all activities of that process.
"""

import json
import threading
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from chaos.claim import Claim
from chaos.clock import now
from chaos.errors import ChaosError
from chaos.kube import ApiError, Json, Kube
from chaos.scope import require_namespace
from chaos.site import Site
from chaos.web import Healer, firing

VARIABLE = "CHAOS_PLAY"


@dataclass(frozen=True)
class Target:
    """An object the fault hit."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass
class Notes:
    """What was seen so far."""

    fault_at: float | None = None
    released_at: float | None = None
    alert_at: float | None = None
    deviated: bool = False
    targets: list[Target] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    """Names of targets that are no longer healer's to heal."""


class Play:
    """One run: the victim, the site, the claim, and whether remediation is off."""

    def __init__(
        self, experiment: str, victim: str, control: bool, site: Site, claim: Claim,
        hypothesis: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        self.experiment, self.victim, self.control = experiment, victim, control
        self.site, self.claim, self.hypothesis = site, claim, hypothesis
        self.notes = Notes()
        self.healer = Healer(site.healer)
        self._kube: Kube | None = None
        self._lock = threading.Lock()

    @property
    def kube(self) -> Kube:
        """The API server of the named context."""
        with self._lock:
            if self._kube is None:
                self._kube = Kube(self.site.kubeconfig, self.site.context)
            return self._kube

    @property
    def namespace(self) -> str:
        """Where the victim lives."""
        return self.site.namespace

    def require_allowed(self) -> None:
        """Raise Refused unless the namespace is labelled: asked before each fault."""
        require_namespace(self.kube, self.namespace)

    def pods(self) -> list[Json]:
        """The victim's pods, those on their way out included."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return self.kube.items(path, labelSelector=f"app={self.victim}")

    def deployment(self) -> Json:
        """The victim's Deployment."""
        return self.kube.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.victim}")

    def poke(self, pod: str, route: str) -> str:
        """Ask a pod for a route by way of the API server; "" when no answer came.

        No answer is what a pod gives that was told to crash or to hang.
        """
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:8080/proxy{route}"
        try:
            return self.kube.text(path)
        except (ApiError, OSError):
            return ""

    def struck(self, targets: list[Target]) -> dict[str, Any]:
        """Note that the fault happened now, to these; what the journal is told."""
        if not targets:
            raise ChaosError("the fault found nothing to hit, so there was no fault")
        self.notes.fault_at = now()
        self.notes.targets = targets
        return {"at": self.notes.fault_at, "targets": [asdict(one) for one in targets]}

    def released(self, spared: list[str]) -> dict[str, Any]:
        """Note that what held healer back is over."""
        self.notes.released_at = now()
        self.notes.spared = spared
        return {"at": self.notes.released_at, "spared": spared}

    def look_for_alert(self) -> None:
        """Note when Prometheus was first seen firing the claimed alert about a target."""
        claim, notes = self.claim, self.notes
        if notes.alert_at is not None or not claim.alert:
            return
        names = {one.name for one in notes.targets}
        try:
            labels = firing(self.site, claim.alert)
        except (OSError, ChaosError):
            return  # not seen is not "not there": the next look tells
        if any(one.get(claim.label) in names for one in labels):
            notes.alert_at = now()


def write_play(path: Path, play: dict[str, Any]) -> None:
    """Write the file that CHAOS_PLAY names; only its owner reads it."""
    path.write_text(json.dumps(play))
    path.chmod(0o600)


@cache
def _read(path: str) -> Play:
    content = json.loads(Path(path).read_text())
    return Play(
        content["experiment"], content["victim"], content["control"],
        Site.model_validate(content["site"]), Claim.model_validate(content["claim"]),
        content["hypothesis"],
    )  # fmt: skip


def current(configuration: dict[str, Any] | None) -> Play:
    """The play of this process, as the toolkit's configuration names it."""
    path = (configuration or {}).get("play", "")
    if not path:
        raise ChaosError(
            f"{VARIABLE} is not set: run experiments by `python -m chaos run`, which prepares them"
        )
    return _read(str(path))
