"""The scenes, each judged by the journal and by the model's API server, never by one alone."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from healer.domain.manifests import meta
from healer.domain.outcome import Outcome
from healer.domain.playbook import Playbook
from healer.domain.run import Run
from healer.domain.verdict import Reason
from healer.ports import JsonObject
from healer.testing.demo.failed import SceneFailed
from healer.testing.demo.town import Row, Town
from healer.testing.simulation.model import BAD_IMAGE
from healer.testing.simulation.rules import CRASHING, NOT_READY, STUCK

SEED = 4
_ZONE_NODES = ("node-b0", "node-b1")


@dataclass(frozen=True, slots=True)
class Scene:
    """One story: what is broken, and what must come of it."""

    name: str
    title: str
    rule: str  #: the alerting rule that watches over it
    act: Callable[[Town], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one scene."""

    name: str
    title: str
    happened: bool
    missing: str  #: what did not happen; empty when all did
    seconds: float  #: virtual, from the fault to the end
    timeline: tuple[Row, ...]


def play(scene: Scene, playbooks: Sequence[Playbook]) -> Played:
    """Play one scene in a town of its own; the same playbooks give the same timeline."""
    town = Town(playbooks, scene.rule, SEED)
    missing = ""
    try:
        town.run(scene.act)
    except SceneFailed as error:
        missing = str(error)
    seconds = round(town.wall.now() - town.fault_at, 1)
    return Played(scene.name, scene.title, not missing, missing, seconds, tuple(town.rows))


async def crash_loop(town: Town) -> None:
    """One pod crashes for ever; it is replaced, once."""
    victim = town.pods("web")[0]
    town.cluster.crash(victim)
    await _replaced(town, victim)


async def hang(town: Town) -> None:
    """One pod runs but answers nobody; it is replaced, once."""
    victim = town.pods("api")[0]
    town.cluster.hang(victim)
    await _replaced(town, victim)


async def _replaced(town: Town, victim: JsonObject) -> None:
    name, uid = str(meta(victim)["name"]), meta(victim)["uid"]
    await town.until(lambda: town.healed(name), f"{name} to be healed")
    steps = [step for run in town.runs(name) for step in run.steps]
    _demand(len(steps) == 1, f"{len(steps)} steps for {name} in the journal, one was due")
    _demand(town.deleted() == [name], f"pods deleted: {town.deleted()}, only {name} was due")
    _demand(all(meta(pod)["uid"] != uid for pod in town.pods()), f"{name} is still there")
    _demand(town.all_ready(), "not every pod is ready again")
    _demand(not town.around.pages, "a person was paged, although it was healed")
    town.seen("replaced once, 18 of 18 pods ready, nobody was paged")


async def bad_rollout(town: Town) -> None:
    """A bad revision never gets ready: a restart does not help, so it is undone."""
    town.cluster.release("cart", BAD_IMAGE)
    await town.until(lambda: town.healed("cart"), "cart to be healed")
    done = [(s.step, s.outcome) for run in town.runs("cart") for s in run.steps]
    due = [(0, Outcome.APPLIED), (1, Outcome.APPLIED)]
    _demand(done == due, f"a restart, then an undo were due; the journal has {done}")
    cart = town.cluster.object(town.cluster.workload("cart"))
    image = cart["spec"]["template"]["spec"]["containers"][0]["image"]
    _demand(image != BAD_IMAGE, "the bad revision is still in force")
    _demand(town.all_ready(), "not every pod is ready after the undo")
    town.seen("the restart did not help, the undo did: 18 of 18 pods ready")


async def zone_outage(town: Town) -> None:
    """A zone goes dark: hold still and page once; when it is back, heal what it left, slowly."""
    there = [pod for pod in town.pods() if pod["spec"].get("nodeName") in _ZONE_NODES]
    names = {str(meta(pod)["name"]) for pod in there}
    for node in _ZONE_NODES:
        town.cluster.node_goes(node)

    def held() -> bool:
        found = [town.episode(name) for name in names]
        return all(e is not None and e.reason is Reason.ZONE_DEGRADED for e in found)

    await town.until(held, f"all {len(names)} episodes to be held with {Reason.ZONE_DEGRADED}")
    await town.until(lambda: bool(town.around.pages), "a page")
    await town.passes(120.0)
    _demand(len(town.around.pages) == 1, f"{len(town.around.pages)} pages for one outage")
    _demand(not town.cluster.effects, "something was changed while the zone was dark")
    town.seen(f"{len(names)} episodes held, 1 page, nothing touched")
    left = there[: len(there) // 2]
    for pod in left:
        town.cluster.hang(pod)
    for node in _ZONE_NODES:
        town.cluster.node_comes(node)
    sick = [str(meta(pod)["name"]) for pod in left]
    await town.until(lambda: all(map(town.healed, sick)), f"{', '.join(sick)} to be healed")
    _demand(sorted(town.deleted()) == sorted(sick), f"pods deleted: {town.deleted()}, not {sick}")
    runs = sorted((r for name in sick for r in town.runs(name) if r.steps), key=_began)
    ends = [run.finished_at or 0.0 for run in runs]
    _demand(ends[0] <= _began(runs[1]), "healing began with two at once")
    most = max(
        sum(_began(a) <= _began(b) < end for a, end in zip(runs, ends, strict=True)) for b in runs
    )
    await town.until(town.all_ready, "every pod to be ready again", 60.0)
    _demand(len(town.around.pages) == 1, f"{len(town.around.pages)} pages for one outage")
    town.seen(f"then {len(sick)} healed, beginning with one, at most {most} at a time")


def _began(run: Run) -> float:
    return run.steps[0].intent_at


def _demand(truth: bool, missing: str) -> None:
    if not truth:
        raise SceneFailed(missing)


SCENES = (
    Scene(
        "crash-loop",
        "A pod crashes for ever on state that outlives its containers",
        CRASHING,
        crash_loop,
    ),
    Scene("hang", "A pod runs, but answers nobody", NOT_READY, hang),
    Scene(
        "bad-rollout",
        "A bad release: a restart does not help, so it is undone",
        STUCK,
        bad_rollout,
    ),
    Scene(
        "zone-outage",
        "A whole zone fails: hold still and page, then heal what is left, slowly",
        NOT_READY,
        zone_outage,
    ),
)
