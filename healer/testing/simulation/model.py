"""A cluster that lives: pods start late, crash, hang; nodes go away; rollouts are slow or bad.

It is the fake API server of `healer.testing.cluster` with kubelets in virtual time. It also keeps
what the API server's audit log would: every write that took effect, and for which run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from healer.domain.kinds import RESOURCES
from healer.domain.manifests import is_ready, meta, ref_of
from healer.domain.target import Kind, TargetRef
from healer.errors import HealerError
from healer.kernel.running import current_run
from healer.ports import JsonObject, PatchType, WatchEvent, WatchKind
from healer.testing.cluster import FakeCluster
from healer.testing.history import Effect
from healer.testing.kept_objects import Subscription
from healer.testing.objects import a_node, a_workload, crashing_status, ready_status
from healer.testing.simulation.clock import ProcessClock
from healer.testing.simulation.loop import SimulatedLoop

ZONES = ("zone-a", "zone-b", "zone-c")
BAD_IMAGE = "registry.invalid/app:bad"
GOOD_IMAGE = "registry.invalid/app:1"
NAMESPACE = "shop"
#: A Deployment that has not come up by then says so. Virtual seconds.
DEADLINE_SECONDS = 120.0


@dataclass(slots=True)
class Nature:
    """How this cluster behaves, drawn from the seed."""

    start_seconds: float = 4.0  #: from created to ready
    slow_start: float = 0.1  #: share of pods that need ten times as long
    sick_again: float = 0.15  #: share of replacements that are as sick as what they replace
    never_start: float = 0.0  #: share of pods that stay pending


class Kubelets:
    """Told of every change of a pod, as a watch is; makes new ones run."""

    def __init__(self, tell: Callable[[WatchEvent], None]) -> None:
        self._tell = tell

    def put_nowait(self, event: WatchEvent | None) -> None:
        """One event of the watch."""
        if event is not None:
            self._tell(event)


@dataclass(slots=True)
class Sickness:
    """What is wrong with whom, by uid of the pod or name of the node."""

    crashing: dict[str, str] = field(default_factory=dict)  #: uid to workload
    hanging: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)  #: nodes


class ModelCluster(FakeCluster):
    """The API server, the controllers and the kubelets. `say` gets one line for what happens."""

    def __init__(
        self,
        loop: SimulatedLoop,
        clock: ProcessClock,
        dice: Random,
        nature: Nature,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(clock, pods_start=False)
        self.loop = loop
        self.dice = dice
        self.nature = nature
        self.say = say
        self.sick = Sickness()
        self.effects: list[Effect] = []
        self.asked: Callable[[str, TargetRef], None] = lambda verb, ref: None
        self._kept.rolling = True
        queue: Any = Kubelets(self._pod_event)
        self._kept.subscriptions.append(Subscription(Kind.POD, "", queue))

    # ------------------------------------------------------------------ setting up

    def build(self, workloads: Sequence[tuple[str, int]], nodes_per_zone: int = 2) -> None:
        """Nodes in three zones, and workloads whose pods all run."""
        for zone in ZONES:
            for number in range(nodes_per_zone):
                self.add(a_node(f"node-{zone[-1]}{number}", zone))
        for name, replicas in workloads:
            made = a_workload(Kind.DEPLOYMENT, name, NAMESPACE, replicas=replicas)
            del made["spec"]["template"]["spec"]["nodeSelector"]
            self.add(made)
        for _ in range(3):  # a rolling Deployment goes on as its pods come up
            for pod in self._kept.of(Kind.POD):
                self._start(ref_of(pod, Kind.POD), at_once=True)

    def workload(self, name: str) -> TargetRef:
        """The Deployment of that name."""
        return TargetRef(Kind.DEPLOYMENT, name, NAMESPACE)

    def living(self) -> list[JsonObject]:
        """The pods as they are; not copies."""
        return self._kept.of(Kind.POD)

    def deployments(self) -> list[JsonObject]:
        """The Deployments as they are; not copies."""
        return self._kept.of(Kind.DEPLOYMENT)

    def nodes(self) -> list[JsonObject]:
        """The nodes as they are; not copies."""
        return self._kept.of(Kind.NODE)

    # ------------------------------------------------------------------ kubelets

    def _pod_event(self, event: WatchEvent) -> None:
        if event.kind is not WatchKind.ADDED:
            return
        ref = ref_of(event.object, Kind.POD)
        if self.dice.random() < self.nature.never_start:
            return
        wait = self.nature.start_seconds * (0.5 + self.dice.random())
        if self.dice.random() < self.nature.slow_start:
            wait *= 10
        self.loop.call_later(wait, self._start, ref)

    def _start(self, ref: TargetRef, at_once: bool = False) -> None:
        pod = self._kept.look(ref)
        if pod is None or meta(pod)["uid"] != ref.uid or pod["spec"].get("nodeName"):
            return
        node = self._place()
        if not node:
            self.loop.call_later(30.0, self._start, ref)
            return
        workload = _app(pod)
        bad = pod["spec"]["containers"][0]["image"] == BAD_IMAGE
        again = not at_once and (
            workload in self.sick.crashing.values() and self.dice.random() < self.nature.sick_again
        )
        status = ready_status()
        if bad:
            status = _unready("")
        elif again:
            self.sick.crashing[ref.uid] = workload
            status = crashing_status()
        self.change(ref, {"spec": {"nodeName": node}, "status": status})

    def _place(self) -> str:
        fit: list[str] = [
            meta(node)["name"]
            for node in self._kept.of(Kind.NODE)
            if meta(node)["name"] not in self.sick.down and not node["spec"].get("unschedulable")
        ]
        if not fit:
            return ""
        on = [pod["spec"].get("nodeName") for pod in self._kept.of(Kind.POD)]
        return min(sorted(fit), key=on.count)

    def _refresh(self, pod: JsonObject) -> None:
        """The pod's status as its sickness and its node make it."""
        ref = ref_of(pod, Kind.POD)
        there = self._kept.look(ref)
        if there is None or meta(there)["uid"] != ref.uid or not there["spec"].get("nodeName"):
            return
        pod, uid = there, ref.uid
        status = ready_status()
        if pod["spec"]["nodeName"] in self.sick.down or uid in self.sick.hanging:
            status = _unready("")
        elif uid in self.sick.crashing:
            status = crashing_status()
        elif pod["spec"]["containers"][0]["image"] == BAD_IMAGE:
            status = _unready("")
        if status["conditions"] != pod["status"].get("conditions") or "crash" in str(status):
            self.change(ref, {"status": status})

    # ------------------------------------------------------------------ what befalls it

    def crash(self, pod: JsonObject) -> None:
        """Its container crashes from now on."""
        self.say(f"fault: {meta(pod)['name']} crash-loops")
        self.sick.crashing[meta(pod)["uid"]] = _app(pod)
        self._refresh(pod)

    def hang(self, pod: JsonObject) -> None:
        """It answers nobody from now on."""
        self.say(f"fault: {meta(pod)['name']} hangs")
        self.sick.hanging.add(meta(pod)["uid"])
        self._refresh(pod)

    def mend(self, pod: JsonObject) -> None:
        """It is well again by itself."""
        uid = meta(pod)["uid"]
        if uid in self.sick.crashing or uid in self.sick.hanging:
            self.say(f"{meta(pod)['name']} is well again by itself")
        self.sick.crashing.pop(uid, None)
        self.sick.hanging.discard(uid)
        self._refresh(pod)

    def node_goes(self, name: str) -> None:
        """A node stops answering, and every pod on it."""
        self.say(f"fault: {name} goes away")
        self.sick.down.add(name)
        self._node(name, "Unknown")

    def node_comes(self, name: str) -> None:
        """It is back."""
        self.say(f"{name} is back")
        self.sick.down.discard(name)
        self._node(name, "True")

    def _node(self, name: str, ready: str) -> None:
        self.change(
            TargetRef(Kind.NODE, name),
            {"status": {"conditions": [{"type": "Ready", "status": ready}]}},
        )
        for pod in self.living():
            if pod["spec"].get("nodeName") == name:
                self._refresh(pod)

    def release(self, name: str, image: str) -> None:
        """Somebody rolls out an image."""
        ref = self.workload(name)
        self.say(f"{'fault: bad release' if image == BAD_IMAGE else 'release'} of {name}")
        template = self.object(ref)["spec"]["template"]
        template["spec"]["containers"][0]["image"] = image
        self.change(ref, {"spec": {"template": template}})
        self.watch_deadline(ref)

    def watch_deadline(self, ref: TargetRef) -> None:
        """A rollout that is not done in time says so."""
        value = self._kept.look(ref)
        if value is not None:
            self.loop.call_later(
                DEADLINE_SECONDS, self._deadline, ref, meta(value).get("generation")
            )

    def _deadline(self, ref: TargetRef, generation: object) -> None:
        value = self._kept.look(ref)
        if value is None or meta(value).get("generation") != generation:
            return
        status = value.get("status") or {}
        wanted = int(value["spec"].get("replicas", 1))
        if status.get("updatedReplicas") == wanted == status.get("readyReplicas"):
            return
        late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        self.change(ref, {"status": {"conditions": [late]}})

    def scale_by_hand(self, name: str, replicas: int) -> None:
        """An autoscaler, or a person, changes the number of pods."""
        self.say(f"{name} is scaled to {replicas} by somebody else")
        self.change(self.workload(name), {"spec": {"replicas": replicas}})

    def bump(self, ref: TargetRef) -> None:
        """Somebody else touches the object: its resourceVersion moves on."""
        value = self._kept.look(ref)
        if value is not None:
            self.change(ref, {"metadata": {"annotations": {"touched": str(self._kept.version)}}})

    def heal_all(self) -> None:
        """The calm: nodes are back, sick pods are well, bad releases are reverted by people."""
        for name in sorted(self.sick.down):
            self.node_comes(name)
        self.sick.crashing.clear()
        self.sick.hanging.clear()
        self.nature.never_start = 0.0
        for value in self.deployments():
            if value["spec"]["template"]["spec"]["containers"][0]["image"] == BAD_IMAGE:
                self.release(meta(value)["name"], GOOD_IMAGE)
            if int(value["spec"].get("replicas", 1)) < 2:
                self.change(ref_of(value, Kind.DEPLOYMENT), {"spec": {"replicas": 3}})
        for pod in self.living():
            if pod["spec"].get("nodeName"):
                self._refresh(pod)
            else:
                self._start(ref_of(pod, Kind.POD), at_once=True)

    # ------------------------------------------------------------------ writes, and their record

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        """As the API server; what took effect is kept."""
        before = self._kept.look(ref)
        version = meta(before)["resourceVersion"] if before is not None else ""
        done = await super().patch(ref, body, kind, subresource=subresource, dry_run=dry_run)
        if not dry_run:
            changed = meta(done).get("resourceVersion") != version
            self._record("patch", ref, subresource, happened=changed)
            if ref.kind is Kind.DEPLOYMENT and changed:
                self.watch_deadline(ref)
        return done

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """As the API server; what took effect is kept."""
        try:
            await super().delete(ref, grace_seconds=grace_seconds, dry_run=dry_run)
        except HealerError:
            self._record("delete", ref, happened=False)
            raise
        if not dry_run:
            self._record("delete", ref)

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        """As the API server; what took effect is kept."""
        try:
            await super().evict(ref, dry_run=dry_run)
        except HealerError:
            self._record("evict", ref, happened=False)
            raise
        if not dry_run:
            self._record("create", ref, "eviction")

    def _record(
        self, verb: str, ref: TargetRef, subresource: str = "", *, happened: bool = True
    ) -> None:
        self.effects.append(
            Effect(
                self.clock.now(), verb, RESOURCES[ref.kind].plural, ref.namespace, ref.name,
                200 if happened else 409, current_run(), "", subresource, ref.uid,
            )
        )  # fmt: skip
        if happened:
            self.say(f"effect: {verb} {ref}{'/' + subresource if subresource else ''}")
            self.asked(verb, ref)


def _unready(reason: str) -> JsonObject:
    status = ready_status()
    status["conditions"] = [{"type": "Ready", "status": "False"}]
    status["containerStatuses"][0]["ready"] = False
    if reason:
        status["reason"] = reason
    return status


def _app(pod: JsonObject) -> str:
    return str((meta(pod).get("labels") or {}).get("app", ""))


def unready(pod: JsonObject) -> bool:
    """Whether a pod that was placed does not serve."""
    return bool(pod["spec"].get("nodeName")) and not is_ready(pod)
