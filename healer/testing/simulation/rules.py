"""Prometheus over the model cluster: three alerting rules, evaluated, held for their time, sent."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from healer.domain.alert import Alert, AlertStatus
from healer.domain.manifests import condition, is_ready, meta, worst_reason
from healer.errors import HealerError
from healer.kernel.ids import label_fingerprint
from healer.ports import AlertingRule, Sample
from healer.testing.history import Firing
from healer.testing.simulation.alertmanager import Peer
from healer.testing.simulation.clock import Wall
from healer.testing.simulation.loop import SimulatedLoop
from healer.testing.simulation.model import ModelCluster

SOURCE = "alertmanager"
CRASHING = "KubePodCrashLooping"
NOT_READY = "KubePodNotReady"
STUCK = "KubeDeploymentRolloutStuck"
EVALUATION_SECONDS = 15.0
#: How long each must hold before it fires. Seconds.
FOR_SECONDS: Mapping[str, float] = {CRASHING: 30.0, NOT_READY: 60.0, STUCK: 30.0}


@dataclass(slots=True)
class Pending:
    """Something a rule found, and since when."""

    labels: dict[str, str]
    since: float
    starts_at: float | None = None  #: it fires since then


@dataclass(slots=True)
class Prometheus:
    """Also `healer.ports.Metrics`; `down` is raised by every call while it is set."""

    loop: SimulatedLoop
    wall: Wall
    cluster: ModelCluster
    peers: Sequence[Peer]
    dice: Random
    truth: "Truth"
    moving: float = 0.0  #: how often a start moves, as when a second Prometheus saw it earlier
    down: HealerError | None = None
    _found: dict[str, Pending] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)  #: fingerprints of label sets

    async def run(self) -> None:
        """Evaluate for ever."""
        while True:
            if self.down is None:
                self.evaluate()
            await asyncio.sleep(EVALUATION_SECONDS)  # noqa: TID251 - virtual time

    def evaluate(self) -> None:
        """One evaluation of every rule, and what follows for Alertmanager."""
        now = self.wall.now()
        present: set[str] = set()
        for labels in self.symptoms():
            fingerprint = self._fingerprint(labels)
            present.add(fingerprint)
            pending = self._found.setdefault(fingerprint, Pending(labels, now))
            if (
                pending.starts_at is None
                and now - pending.since >= FOR_SECONDS[labels["alertname"]]
            ):
                pending.starts_at = now
                self.truth.begins(fingerprint)
                self.tell(fingerprint, pending, None)
            elif pending.starts_at is not None and self.dice.random() < self.moving:
                pending.starts_at += self.dice.choice((-20.0, -5.0, 7.5))
                self.tell(fingerprint, pending, None)
            if pending.starts_at is not None:
                self._repeat(fingerprint, pending)
        for fingerprint in [each for each in self._found if each not in present]:
            gone = self._found.pop(fingerprint)
            if gone.starts_at is not None:
                self.truth.ends(fingerprint)
                self.tell(fingerprint, gone, now)

    def tell(self, fingerprint: str, what: Pending, ends_at: float | None) -> None:
        """Have every Alertmanager hear of it; an end of None: it fires."""
        for peer in self.peers:
            peer.take(fingerprint, what.labels, what.starts_at or what.since, ends_at)

    def _repeat(self, fingerprint: str, what: Pending) -> None:
        """Prometheus sends again and again what fires: who missed it hears it now."""
        for peer in self.peers:
            if fingerprint not in peer.alerts:
                peer.take(fingerprint, what.labels, what.starts_at or what.since, None)

    def symptoms(self) -> Iterator[dict[str, str]]:
        """The labels of everything the rules would find now."""
        for pod in self.cluster.living():
            if is_ready(pod) or not pod["spec"].get("nodeName"):
                continue
            name = CRASHING if worst_reason(pod) == "CrashLoopBackOff" else NOT_READY
            yield _labels(name, pod=meta(pod)["name"])
        for value in self.cluster.deployments():
            if condition(value, "Progressing").get("reason") == "ProgressDeadlineExceeded":
                yield _labels(STUCK, deployment=meta(value)["name"])

    def _fingerprint(self, labels: Mapping[str, str]) -> str:
        text = "/".join(labels.values())
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = label_fingerprint(labels)
        return known

    # ------------------------------------------------------------------ healer.ports.Metrics

    def _here(self) -> None:
        if self.down is not None:
            raise self.down

    async def query(self, expr: str) -> Sequence[Sample]:
        """Nothing is exported but alerts."""
        self._here()
        return []

    async def query_many(self, exprs: Sequence[str]) -> Mapping[str, Sequence[Sample] | Exception]:
        """Nothing is exported but alerts."""
        self._here()
        return {expr: [] for expr in exprs}

    async def rules(self) -> Sequence[AlertingRule]:
        """The rules, as far as healer asks."""
        self._here()
        return [
            AlertingRule(name, f"{name.lower()} == 1", held, 0.0, {}, EVALUATION_SECONDS)
            for name, held in FOR_SECONDS.items()
        ]

    async def firing(self) -> Sequence[Alert]:
        """What fires by the last evaluation."""
        self._here()
        now = self.wall.now()
        return [
            Alert(
                "prometheus", fingerprint, AlertStatus.FIRING, each.labels, each.starts_at,
                polled_at=now,
            )
            for fingerprint, each in self._found.items()
            if each.starts_at is not None
        ]  # fmt: skip

    async def ready(self) -> None:
        """Whether it answers."""
        self._here()


def _labels(name: str, **target: str) -> dict[str, str]:
    severity = "critical" if name == STUCK else "warning"
    return {"alertname": name, "namespace": "shop", **target, "severity": severity}


@dataclass(slots=True)
class Truth:
    """When each alert really fired: as long as anybody who evaluates or keeps alerts says so."""

    wall: Wall
    _counts: dict[str, int] = field(default_factory=dict)
    _open: dict[str, Firing] = field(default_factory=dict)
    periods: list[Firing] = field(default_factory=list)

    def begins(self, fingerprint: str) -> None:
        """One more says that it fires."""
        count = self._counts[fingerprint] = self._counts.get(fingerprint, 0) + 1
        if count == 1:
            self._open[fingerprint] = Firing(SOURCE, fingerprint, self.wall.now())

    def ends(self, fingerprint: str) -> None:
        """One less does."""
        count = self._counts[fingerprint] = self._counts.get(fingerprint, 0) - 1
        if count == 0:
            self.periods.append(replace(self._open.pop(fingerprint), until=self.wall.now()))

    def all(self) -> tuple[Firing, ...]:
        """Every period, those under way included."""
        return (*self.periods, *self._open.values())
