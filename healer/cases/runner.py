"""Runs cases through the real selection, planning, guards and ladder: no cluster and no clock."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from healer.actions.contract import Action
from healer.cases.play import play
from healer.cases.reader import Case, CaseFile, read_cases
from healer.cases.scene import as_seen_from, episode_of, facts_of, observation_of
from healer.cases.shape import Expected, SeenGiven, StepExpected
from healer.domain.episode import Episode
from healer.domain.guard import decide
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Playbook, TargetRule
from healer.domain.selection import NotSelected, choose
from healer.domain.target import Observation
from healer.domain.verdict import Reason
from healer.planning import Unplannable, make_plan, owner_of, resolve_target
from healer.playbook_yaml.faults import PlaybookSetError
from healer.playbook_yaml.loader import CASES_FOLDER, load_files, playbook_files
from healer.playbook_yaml.registry import Registry
from healer.playbook_yaml.yaml_text import Path as Place

#: As a case writes "no playbook".
NONE = "none"


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """One expectation that is not so, and where it stands; or one fault of a case file."""

    path: str
    line: int
    column: int
    case: str
    expected: str
    actual: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}"
        if not self.case:
            return f"{where}: {self.actual}"
        return f"{where}: {self.case}: expected {self.expected}, but {self.actual}"


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What was run, and everything that was not as expected."""

    playbooks: int
    cases: int
    failures: tuple[CaseFailure, ...]
    untested: tuple[str, ...] = ()  #: playbooks without any case

    @property
    def passed(self) -> bool:
        """Whether every expectation held."""
        return not self.failures


def run_cases(paths: Iterable[Path], registry: Registry) -> CaseReport:
    """Run every case of these playbook files and folders.

    The cases of `DIR/NAME.yaml` are in `DIR/cases/NAME.yaml`. Raises PlaybookSetError when a
    playbook itself is faulty; a faulty case file is a failure of its own.
    """
    given = tuple(paths)
    playbooks = load_files(playbook_files(given), registry).playbooks
    runner = _Runner(playbooks, registry.actions)
    tested: set[str] = set()
    cases = 0
    failures: list[CaseFailure] = []
    for path in case_files(given):
        try:
            file = read_cases(path)
        except PlaybookSetError as error:
            failures += (
                CaseFailure(e.path, e.line, e.column, "", "", e.problem) for e in error.errors
            )
            continue
        tested.add(file.playbook)
        cases += len(file.cases)
        failures += runner.run(file)
    untested = tuple(p.name for p in playbooks if p.name not in tested)
    return CaseReport(len(playbooks), cases, tuple(failures), untested)


def case_files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The case files beside these playbooks, in order; there may be none."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            folder = path / CASES_FOLDER
            for file in playbook_files([folder]) if folder.is_dir() else ():
                found[file] = None
        else:
            file = path.parent / CASES_FOLDER / path.name
            if file.is_file():
                found[file] = None
    return tuple(found)


class _Runner:
    def __init__(self, playbooks: Sequence[Playbook], actions: Mapping[str, Action]) -> None:
        self._playbooks = playbooks
        self._actions = actions

    def run(self, file: CaseFile) -> Iterator[CaseFailure]:
        own = next((p for p in self._playbooks if p.name == file.playbook), None)
        if own is None:
            line, column = file.document.mark(("playbook",))
            yield CaseFailure(
                file.document.path, line, column, "", "",
                f"there is no playbook {file.playbook!r} in the set; correct the name",
            )  # fmt: skip
            return
        for case in file.cases:
            for where, expected, actual in self._case(case, own):
                line, column = file.document.mark(("cases", case.index, "expect", *where))
                yield CaseFailure(file.document.path, line, column, case.name, expected, actual)

    def _case(self, case: Case, own: Playbook) -> Iterator[tuple[Place, str, str]]:
        expect = case.shape.expect
        wanted = expect.playbook or own.name
        episode = episode_of(case.given, own)
        chosen = choose(self._playbooks, episode)
        if isinstance(chosen, NotSelected):
            if wanted != NONE:
                yield ("playbook",), f"playbook {wanted}", chosen.detail
            return
        playbook = chosen.playbook
        if playbook.name != wanted:
            yield ("playbook",), f"playbook {wanted}", f"{playbook.name} was chosen"
            return
        found = self._plan(case, playbook, episode)
        if isinstance(found, Unplannable):
            if expect.unplannable is not found.reason:
                where = "unplannable" if expect.unplannable else "target"
                wish = f"unplannable {expect.unplannable}" if expect.unplannable else "a plan"
                yield (where,), wish, f"there is no plan, {found.reason}: {found.detail}"
            return
        plan, views = found
        if expect.unplannable:
            yield ("unplannable",), f"no plan ({expect.unplannable})", f"{plan.target} is planned"
            return
        if expect.target is not None and str(expect.target) != str(plan.target):
            yield ("target",), f"target {expect.target}", f"it is {plan.target}"
        yield from self._steps(expect, plan)
        yield from self._verdict(case, plan, views[0], episode)
        if expect.ladder is not None:
            yield from play(expect.ladder, plan, views, episode, case.given.now)

    def _plan(
        self, case: Case, playbook: Playbook, episode: Episode
    ) -> tuple[Plan, dict[int, Observation]] | Unplannable:
        """The plan, and what is seen of each step's target, as `engine.deciding` makes them."""
        given = case.given
        seen = _look(playbook.target, given.seen, episode, given.now)
        if isinstance(seen, Unplannable):
            return seen
        others: dict[int, Observation] = {}
        for index, rule in enumerate(playbook.steps):
            if rule.target is not None:
                shown = given.others.get(rule.name, SeenGiven())
                other = _look(rule.target, shown, episode, given.now)
                if isinstance(other, Unplannable):
                    return other
                others[index] = other
        plan = make_plan(playbook, episode, seen, given.now, self._actions, others)
        if isinstance(plan, Unplannable):
            return plan
        return plan, {step.index: others.get(step.index, seen) for step in plan.steps}

    def _steps(self, expect: Expected, plan: Plan) -> Iterator[tuple[Place, str, str]]:
        if expect.steps is None:
            return
        if len(expect.steps) != len(plan.steps):
            planned = ", ".join(step.action for step in plan.steps)
            yield (
                ("steps",),
                f"{len(expect.steps)} steps",
                f"{len(plan.steps)} are planned: {planned}",
            )
        for index, (want, step) in enumerate(zip(expect.steps, plan.steps, strict=False)):
            for key, expected, actual in self._step(want, step):
                yield ("steps", index, *key), expected, actual

    def _step(self, want: StepExpected, step: PlannedStep) -> Iterator[tuple[Place, str, str]]:
        if want.action != step.action:
            yield ("action",), f"action {want.action}", f"{step.action} is planned"
            return
        if want.name is not None and want.name != step.name:
            yield ("name",), f"step {want.name!r}", f"it is {step.name!r}"
        if want.target is not None and str(want.target) != str(step.target):
            yield ("target",), f"target {want.target}", f"it is {step.target}"
        if want.cost is not None and want.cost != step.cost:
            yield ("cost",), f"cost {want.cost}", f"it is {step.cost}"
        wanted = self._as_planned(step, want.with_ or {})
        for key, value in wanted.items():
            planned = step.params.get(key)
            if planned != value:
                actual = f"it is {planned!r}" if key in step.params else "there is none"
                yield ("with", key), f"{key} {value!r}", actual

    def _as_planned(self, step: PlannedStep, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """The wanted parameters as a plan writes them, so `10s` is the same as 10.0."""
        params = self._actions[step.action].params
        try:
            whole = params.model_validate({**step.params, **wanted}).model_dump(mode="json")
        except ValidationError:
            return wanted  # shown as it was written: it cannot be what was planned
        return {key: whole.get(key, value) for key, value in wanted.items()}

    def _verdict(
        self, case: Case, plan: Plan, seen: Observation, episode: Episode
    ) -> Iterator[tuple[Place, str, str]]:
        want = case.shape.expect.verdict
        if want is None:
            return
        step = plan.steps[0]
        verdict, _ = decide(plan, step, facts_of(case.given, plan, step, seen, episode))
        if verdict.effect is not want.effect or want.reason not in {None, verdict.reason}:
            expected = f"{want.effect} ({want.reason})" if want.reason else str(want.effect)
            actual = f"it is {verdict.effect} ({verdict.reason}): {verdict.detail}"
            yield ("verdict",), f"verdict {expected}", actual


def _look(
    rule: TargetRule, shown: SeenGiven, episode: Episode, now: float
) -> Observation | Unplannable:
    ref = resolve_target(rule, episode)
    if isinstance(ref, Unplannable):
        return ref
    if shown.gone:
        return Unplannable(Reason.TARGET_GONE, f"{ref} does not exist")
    seen = observation_of(ref, shown, now)
    if not rule.owner:
        return seen
    owner = owner_of(rule, seen)
    if isinstance(owner, Unplannable):
        return owner
    return seen if owner == seen.ref else as_seen_from(owner, seen)
