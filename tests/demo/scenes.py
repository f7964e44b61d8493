"""The three scenes, each judged by the journal and by the API server, never by one alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.bed.cluster import Cluster
from tests.bed.service import Service
from tests.bed.waiting import today, until
from tests.demo.faults import Faults
from tests.demo.stack import Stack

NAMESPACE = "demo"
WORKLOADS = ("web", "api", "cart")
#: How long a scene may take before it counts as not having happened. Seconds.
PATIENCE = 90.0

Say = Callable[[str], None]
Pod = dict[str, Any]


class SceneFailed(Exception):
    """A scene did not truly happen; the text says what was missing."""


@dataclass
class Times:
    """When things happened to one target, Unix seconds."""

    what: str
    fault: float
    alert: float = 0.0
    accepted: float = 0.0
    intent: float = 0.0
    effect: float = 0.0
    recovered: float = 0.0
    steps: str = ""


@dataclass
class Scene:
    """One scene's outcome."""

    title: str
    times: list[Times] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    seconds: float = 0.0


def deploy(cluster: Cluster) -> None:
    """Three workloads of six pods each, spread over the zones, without liveness probes."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    for name in WORKLOADS:
        objects = Service(name, NAMESPACE, replicas=6).objects()
        for one in objects:
            if one["kind"] == "Deployment":
                one["spec"]["progressDeadlineSeconds"] = 8
                one["spec"]["minReadySeconds"] = 0 if cluster.real_nodes else 2
                one["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
        cluster.apply(*objects)
    until(
        lambda: len(pods(cluster)) == 18 and all(ready(p) for p in pods(cluster)),
        "18 pods to be ready",
        timeout=90,
    )


def pods(cluster: Cluster) -> list[Pod]:
    """The pods of the demo that are not on their way out, as the API server has them."""
    found: list[Pod] = cluster.get("pods", "-n", NAMESPACE)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def ready(pod: Pod) -> bool:
    """Whether the pod's Ready condition is true."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def sick_pods(stack: Stack, faults: Faults, say: Say) -> Scene:
    """One pod crash-loops on poisoned scratch state, one hangs; both are replaced, once."""
    cluster = stack.cluster
    scene = Scene("Pods that the kubelet cannot heal are replaced")
    web = next(p for p in pods(cluster) if p["metadata"]["labels"]["app"] == "web")
    api = next(p for p in pods(cluster) if p["metadata"]["labels"]["app"] == "api")
    poisoned, hung = web["metadata"]["name"], api["metadata"]["name"]
    at = today()
    faults.poison(web)
    faults.hang(api)
    say(f"fault: {poisoned} poisoned (its containers crash for ever), {hung} hangs")
    for name, alert, before in (
        (poisoned, "PodCrashLooping", web),
        (hung, "PodNotAnswering", api),
    ):
        story = _healed(stack, alert, "pod", name, at)
        times = _times(story, f"Pod {name}", at)
        scene.times.append(times)
        _demand(
            not _exists(cluster, before["metadata"]["uid"]),
            f"{name} is still there with the same uid",
        )
        deletes = [step for run in story["runs"] for step in run["steps"]]
        _demand(len(deletes) == 1, f"{name}: {len(deletes)} steps in the journal, one was due")
        scene.seen.append(f"{name}: replaced once, its uid is gone")
    _all_ready(cluster)
    scene.seen.append("18 of 18 pods ready, says the API server")
    return scene


def bad_rollout(stack: Stack, faults: Faults, say: Say) -> Scene:
    """A bad revision never gets ready: a restart does not help, so it is undone."""
    cluster = stack.cluster
    scene = Scene("A bad rollout: restart does not help, so the ladder undoes it")
    at = today()
    faults.bad_release("cart")
    say("fault: revision 2 of cart is rolled out and never becomes ready")
    story = _healed(stack, "RolloutStuck", "deployment", "cart", at)
    scene.times.append(_times(story, "Deployment cart", at))
    done = [(s["step"], s["outcome"]) for run in story["runs"] for s in run["steps"]]
    _demand(done == [(0, "applied"), (1, "applied")], f"restart, then undo were due; did {done}")
    cart = cluster.get("deployment", "cart", "-n", NAMESPACE)
    env = cart["spec"]["template"]["spec"]["containers"][0].get("env", [])
    _demand(not any(e["name"] == "BAD" for e in env), "the bad revision is still in force")
    _demand(cart["status"].get("readyReplicas") == 6, "cart is not ready after the undo")
    scene.seen.append("restart_rollout: not recovered; undo_rollout: recovered; 6 of 6 ready")
    return scene


def zone_trouble(stack: Stack, faults: Faults, say: Say) -> Scene:
    """Two thirds of a zone fail together: held, paged, and healed one by one once it is calm."""
    cluster = stack.cluster
    scene = Scene("Two thirds of a zone fail together: hold, page, then pace")
    zone = "zone-b"
    nodes = [n["metadata"]["name"] for n in cluster.get("nodes")["items"] if _zone(n) == zone]
    there = [p for p in pods(cluster) if p["spec"].get("nodeName") in nodes]
    count = -(-len(there) * 2 // 3)
    victims = sorted(there, key=lambda p: p["metadata"]["name"])[:count]
    names = {p["metadata"]["name"] for p in victims}
    uids = {p["metadata"]["uid"] for p in victims}
    at = today()
    paged = len(stack.pager.pages())
    for victim in victims:
        faults.poison(victim)
    say(f"fault: {count} of {len(there)} pods of {zone} are poisoned at once")

    def held() -> bool:
        mine = _mine(stack, names, at)
        return len(mine) == count and all(e["reason"] == "zone_degraded" for e in mine)

    until(held, "all of them to be held back", timeout=PATIENCE)
    say(f"held: {count} episodes wait with reason zone_degraded")
    until(lambda: len(stack.pager.pages()) > paged, "a page", timeout=PATIENCE)
    page = stack.pager.pages()[paged]
    say(f"page: {page['title']}")
    _demand(page["reason"] == "zone_degraded", f"the page is about {page['reason']}")
    _demand(len(stack.pager.pages()) == paged + 1, "more than one page for one storm")
    alive = {p["metadata"]["uid"] for p in pods(cluster)}
    _demand(uids <= alive, "a pod was deleted while the zone was held")
    scene.seen.append(f"{count} held, 1 page, 0 pods deleted, says the API server")
    freed = sorted(names)[: count // 2]
    for name in freed:
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    say(f"a person repairs {', '.join(freed)}; the rest is healer's")
    left = names - set(freed)
    for name in sorted(left):
        story = _healed(stack, "PodCrashLooping", "pod", name, at)
        scene.times.append(_times(story, f"Pod {name}", at))
    flights = sorted((t.intent, t.recovered) for t in scene.times)
    overlap = max((sum(1 for a, b in flights if a <= start < b) for start, _ in flights), default=0)
    _demand(flights[0][1] <= flights[1][0] if len(flights) > 1 else True, "the ramp began with two")
    scene.seen.append(f"then {len(left)} healed, at most {overlap} at a time, beginning with one")
    _all_ready(cluster)
    scene.seen.append("18 of 18 pods ready, says the API server")
    return scene


def _healed(stack: Stack, alert: str, label: str, name: str, after: float) -> dict[str, Any]:
    """The story of the episode of this object, once the journal says that it is healed."""
    found: list[dict[str, Any]] = []

    def healed() -> bool:
        found[:] = [
            e
            for e in stack.healer.episodes()
            if e["labels"].get("alertname") == alert
            and e["labels"].get(label) == name
            and e["opened_at"] >= after
        ]
        return any(e["result"] == "healed" for e in found)

    until(healed, f"{alert} of {name} to be healed", timeout=PATIENCE)
    episode = next(e for e in found if e["result"] == "healed")
    return stack.healer.story(episode["id"])


def _mine(stack: Stack, names: set[str], after: float) -> list[dict[str, Any]]:
    return [
        e
        for e in stack.healer.episodes()
        if e["labels"].get("pod") in names
        and e["labels"]["alertname"] == "PodCrashLooping"
        and e["opened_at"] >= after
    ]


def _times(story: dict[str, Any], what: str, fault: float) -> Times:
    episode, run = story["episode"], story["runs"][0]
    first, last = run["steps"][0], run["steps"][-1]
    return Times(
        what,
        fault,
        alert=episode["starts_at"],
        accepted=episode["opened_at"],
        intent=first["intent_at"],
        effect=last["outcome_at"],
        recovered=run["finished_at"],
        steps=" → ".join(run["plan"]["steps"][s["step"]]["action"] for s in run["steps"]),
    )


def _zone(node: dict[str, Any]) -> str:
    return str(node["metadata"]["labels"].get("topology.kubernetes.io/zone", ""))


def _exists(cluster: Cluster, uid: str) -> bool:
    return any(p["metadata"]["uid"] == uid for p in pods(cluster))


def _all_ready(cluster: Cluster) -> None:
    until(
        lambda: len(pods(cluster)) == 18 and all(ready(p) for p in pods(cluster)),
        "every pod to be ready again",
        timeout=30,
    )


def _demand(truth: bool, missing: str) -> None:
    if not truth:
        raise SceneFailed(missing)


SCENES = (sick_pods, bad_rollout, zone_trouble)
