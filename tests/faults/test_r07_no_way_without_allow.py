"""R7: nothing reaches an action without an Allow for that very plan, and empty is never all."""

import ast
import inspect
import typing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.budget import Bucket
from healer.domain.facts import Approval, ConditionAnswer
from healer.domain.guard import decide
from healer.domain.pause import Pause
from healer.domain.playbook import Mode, TargetRule
from healer.domain.target import DomainHealth, Kind, TargetRef
from healer.domain.verdict import Allow, Effect
from healer.engine import acting
from healer.engine.deciding import Go, consider
from healer.errors import Refused
from healer.planning import Unplannable, resolve_target
from healer.testing.builders import a_plan, a_playbook, a_step, an_episode, an_observation, calm
from healer.testing.clock import START
from tests.engine.stage import a_stage

HEALER = Path(acting.__file__).parents[1]
_times = st.none() | st.floats(START - 1e5, START + 1e5)
_health = st.none() | st.builds(DomainHealth, st.just("a"), st.integers(0, 30), st.integers(0, 30))
FACTS = st.fixed_dictionaries({
    "observation": st.none() | st.just(an_observation()) | st.just(
        an_observation(TargetRef(Kind.POD, "web-0", "shop", "another"))),
    "firing": st.sampled_from([True, True, False, None]),
    "episode_opened_at": st.floats(START - 1e5, START),
    "pauses": st.just(()) | st.just((Pause("p", "stop", "ada", START),)),
    "last_run_ended_at": _times,
    "buckets": st.just({}) | st.just({"cluster/cluster": Bucket(0.0, START)}),
    "locked_by": st.sampled_from([None, None, "ep-other"]),
    "owner": _health, "zone": _health,
    "in_flight_owner": st.integers(0, 5), "in_flight_zone": st.integers(0, 5),
    "queue_place": st.integers(0, 5), "bad_outcomes": st.integers(0, 5), "last_bad_at": _times,
    "conditions": st.just(()) | st.just((ConditionAnswer("x", "backup", None),)),
    "protected": st.sampled_from(["", "", "it is ours"]),
    "missing_right": st.sampled_from(["", "", "delete pods"]),
    "recent_runs": st.integers(0, 8),
})  # fmt: skip


@given(FACTS, st.sampled_from(Mode), st.booleans())
def test_r7_a_verdict_gives_an_allow_exactly_when_it_allows(
    found: dict[str, object], mode: Mode, approved: bool
) -> None:
    """An Allow is given with the verdict allow alone, and is bound to this plan and step."""
    plan = a_plan(mode=mode)
    facts = calm(**found)
    if approved:
        yes = Approval(plan.digest, True, "ada", START, START + 60)
        facts = replace(facts, approval=yes)
    verdict, allow = decide(plan, plan.steps[0], facts)
    assert (allow is not None) == (verdict.effect is Effect.ALLOW)
    if allow is not None:
        assert (allow.plan_digest, allow.step) == (plan.digest, 0)
        assert facts.firing
        assert not facts.pauses
        assert not facts.protected
        assert mode is Mode.AUTO or approved
        assert mode is not Mode.OBSERVE
    else:
        assert verdict.because


def test_r7_only_the_guard_makes_an_allow() -> None:
    """In all of healer `Allow(…)` is called once, in `decide`; and `act` takes none but a Go."""
    made = [
        path.relative_to(HEALER).as_posix()
        for path in HEALER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Allow"
    ]
    assert made == ["domain/guard.py"]
    assert typing.get_type_hints(acting.act)["go"] is Go
    assert typing.get_type_hints(Go)["allow"] is Allow
    assert inspect.signature(Go).parameters["allow"].default is inspect.Parameter.empty


@pytest.mark.parametrize("wrong", ["plan", "step"])
async def test_r7_an_allow_for_another_plan_does_nothing(tmp_path: Path, wrong: str) -> None:
    """The executor refuses an Allow of another plan or step before it touches anything."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.clock.advance(600)
        pod = stage.pod()
        stage.break_pod(pod)
        await stage.fire(pod)
        claim = (await stage.store.claim("worker-1", stage.clock.now(), 30.0, 1))[0]
        go = await consider(stage.world, claim)
        assert isinstance(go, Go)
        other = (
            replace(go.allow, plan_digest=a_plan(a_step()).digest)
            if wrong == "plan"
            else replace(go.allow, step=1)
        )
        with stage.world.crowd.looking() as look, pytest.raises(Refused, match="another plan"):
            await acting.act(stage.world, replace(go, allow=other), look)
        assert stage.cluster.writes == []


ODD = st.sampled_from(
    ["", " ", "*", ".*", "web,db", "app=web", "a/b", "-x", "A", "..", "\n", "=~x"]
)


@given(st.dictionaries(st.sampled_from(["pod", "namespace"]), ODD))
def test_r7_an_empty_or_odd_label_names_no_target(labels: dict[str, str]) -> None:
    """A label that is missing, empty or a pattern never becomes a target, let alone many."""
    rule = TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}")
    found = resolve_target(rule, an_episode(labels=labels))
    assert isinstance(found, Unplannable)
