"""R4: 60 % of a zone fail together: nothing at first, then 1, 2, 4 at once, in one order."""

from collections.abc import Callable
from pathlib import Path

from healer.domain.explain import explain
from healer.domain.playbook import DEFAULT_BUDGETS, Guards, Rate, Scope
from healer.domain.run import Phase
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.engine.worker import tick
from healer.ports import Claim, EpisodeFilter
from healer.testing.builders import a_playbook
from healer.testing.objects import a_workload
from tests.engine.stage import Stage, a_stage
from tests.faults.storms import Effects

ZONE_BUDGET = 10
GUARDS = Guards(
    budgets={**DEFAULT_BUDGETS, Scope.ZONE: Rate(ZONE_BUDGET, 3600.0),
             Scope.PLAYBOOK: Rate(1000, 1.0), Scope.NAMESPACE: Rate(1000, 1.0)},
    max_in_flight=16, max_age_seconds=86400.0,
)  # fmt: skip


async def _round(stage: Stage, levels: dict[int, int]) -> None:
    """Drive all that is due, and keep the most runs in flight by how many have recovered."""
    for claim in await stage.store.claim(stage.world.owner, stage.clock.now(), 30.0, 100):
        held: Claim = claim
        while held.owner:
            held = await tick(stage.world, held)
    runs = await stage.store.runs(limit=1000)
    flying = sum(run.phase not in {Phase.GUARD, Phase.DONE} for run in runs)
    healed = sum(run.result == "healed" for run in runs)
    levels[healed] = max(levels.get(healed, 0), flying)


async def _storm(folder: Path) -> tuple[list[str], dict[int, int], Effects, list[bool]]:
    """Twelve of twenty pods of a zone break; four mend by themselves; the rest is healed."""
    explained: list[bool] = []
    levels: dict[int, int] = {}
    folder.mkdir()
    async with a_stage(folder, a_playbook(guards=GUARDS)) as stage:
        effects = Effects(stage)
        stage.cluster.remove(stage.web)
        for name in ("node-b", "node-c"):
            zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
            stage.cluster.change(TargetRef(Kind.NODE, name), zone)
        apps = [
            stage.cluster.add(a_workload(Kind.DEPLOYMENT, f"app{n:02}", replicas=1))
            for n in range(20)
        ]
        stage.clock.advance(600)
        pods = [stage.cluster.pods_of(app)[0] for app in apps[:12]]
        for pod in pods:
            stage.break_pod(pod)
        ids = []
        for number, pod in enumerate(pods):
            urgent = {"severity": "critical"} if number == 11 else {}
            ids.append(await stage.fire(pod, urgent))
            stage.clock.advance(1)
        for _ in range(20):
            stage.clock.advance(15)
            await _round(stage, levels)
        assert effects.at == [], "nothing is done while most of the zone is bad"
        held = await stage.store.episodes(EpisodeFilter(firing=True, limit=100))
        assert {episode.reason for episode in held} == {Reason.ZONE_DEGRADED}
        for pod, episode_id in zip(pods[:4], ids[:4], strict=True):
            stage.mend_pod(pod)
            await stage.resolve(episode_id)
        levels.clear()
        for _ in range(240):
            stage.clock.advance(5)
            await _round(stage, levels)
            for episode in await stage.store.episodes(EpisodeFilter(firing=True, limit=100)):
                if episode.reason is Reason.STORM_PACED and not episode.result:
                    run = (await stage.store.runs(episode.id, limit=1))[0]
                    facts = await stage.facts(episode.id)
                    told = explain(episode, run, facts, stage.clock.now())
                    explained.append(bool(told.waits) and bool(told.next_look_at))
        order = [ref.name.rsplit("-", 2)[0] for _, ref in effects.at]
        return order, levels, effects, explained


async def test_r4_a_correlated_failure_is_paced(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Held, then a ramp that doubles, within budget, the most severe first, the same each time."""
    record_property("fault", "R4")
    order, levels, effects, explained = await _storm(tmp_path / "one")
    assert len(order) == 8
    assert order[0] == "app11"
    assert order[1:] == [f"app{n:02}" for n in range(4, 11)]
    assert all(most <= 2**healed for healed, most in levels.items()), levels
    assert max(levels.values()) > 1
    assert effects.most_within(3600) <= ZONE_BUDGET
    assert explained
    assert all(explained)
    again, *_ = await _storm(tmp_path / "two")
    assert again == order
    record_property(
        "worst",
        f"0 actions in the storm, then at most {[levels[n] for n in sorted(levels)]} at once, "
        f"{len(order)} in all of a budget of {ZONE_BUDGET}",
    )
