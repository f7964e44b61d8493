"""A campaign: control runs with remediation off, then the experiments one by one, then the report.

Control runs whose faults stay within their own victim run beside each other: healer is paused as a
whole, so nothing but Kubernetes could carry an effect from one to the other, and it does not.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.catalogue import Experiment
from chaos.clock import now, until
from chaos.course import Course
from chaos.errors import ChaosError
from chaos.kube import Kube
from chaos.runner import Bout, tag
from chaos.scope import require_namespace
from chaos.site import Site
from chaos.verdict import Verdict, judge, not_run
from chaos.web import Healer, alerts_in

Say = Callable[[str], None]
#: So many control runs at once; each is a process of its own.
SIDE_BY_SIDE = 10
#: healer stays paused for control runs at most so long, whatever becomes of this program. Seconds.
PAUSE_SECONDS = 1800.0
#: Alerts and episodes of a removed victim end within this time. Seconds.
CALM_SECONDS = 180.0


@dataclass
class Result:
    """One experiment with its two courses and the judgement."""

    experiment: Experiment
    verdict: Verdict
    healing: Course | None = None
    control: Course | None = None


@dataclass
class Campaign:
    """All that was run."""

    site: Site
    began_at: float
    ended_at: float = 0.0
    results: list[Result] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything that ran passed, and something did."""
        ran = [one for one in self.results if one.verdict.status != "not run"]
        return bool(ran) and all(one.verdict.status == "passed" for one in ran)


def cost(experiment: Experiment) -> float:
    """About how long its healing run takes: half of its limits, and its victim comes and goes."""
    within = experiment.claim.within
    return 15.0 + (within.detect + within.heal) / 2 + within.stable


def control_cost(experiment: Experiment) -> float:
    """About how long its control run takes: what is not healed is watched until the end."""
    within = experiment.claim.within
    hold = within.detect if experiment.claim.hold is not None else 0.0
    return 25.0 + hold + within.heal + within.stable


def fitting(
    experiments: list[Experiment], seconds: float, *, with_control: bool
) -> list[Experiment]:
    """The experiments, in order, that a budget of seconds has room for with their control runs."""
    chosen: list[Experiment] = []
    for one in experiments:
        wanted = [*chosen, one]
        total = sum(cost(it) for it in wanted)
        if with_control:
            total += sum(control_cost(it) for it in wanted if it.claim.alone)
            total += max((control_cost(it) for it in wanted if not it.claim.alone), default=0.0)
        if total <= seconds:
            chosen = wanted
    return chosen


class Runner:
    """Runs a campaign within a budget of seconds."""

    def __init__(
        self, site: Site, folder: Path, say: Say, *, seconds: float | None, with_control: bool
    ) -> None:
        self._site, self._folder, self._say = site, folder, say
        self._seconds = seconds
        self._end = None if seconds is None else now() + seconds
        self._with_control = with_control
        self._healer = Healer(site.healer)
        self._kube = Kube(site.kubeconfig, site.context)
        self._tag = tag()

    def run(self, experiments: list[Experiment]) -> Campaign:
        """Refuse, or run all; raises Refused before anything was touched."""
        require_namespace(self._kube, self._site.namespace)
        self._healer.episodes()  # says at once when healer cannot be asked
        campaign = Campaign(self._site, now())
        possible, results = [], {}
        for one in experiments:
            if reason := one.not_possible(self._site):
                results[one.name] = Result(one, not_run(reason))
                self._say(f"{one.name}: not run: {reason}")
            else:
                possible.append(one)
        if self._seconds is not None:
            fit = fitting(possible, self._seconds, with_control=self._with_control)
            for one in possible:
                if one not in fit:
                    reason = f"no room for it in the time budget of {self._seconds:.0f} s"
                    results[one.name] = Result(one, not_run(reason))
                    self._say(f"{one.name}: not run: {reason}")
            possible = fit
        controls = self._controls(possible) if self._with_control and possible else {}
        for one in possible:
            results[one.name] = self._one(one, controls.get(one.name))
        campaign.results = [results[one.name] for one in experiments]
        campaign.ended_at = now()
        return campaign

    # ---------------------------------------------------------------------------- controls

    def _controls(self, experiments: list[Experiment]) -> dict[str, Course]:
        alone = [one for one in experiments if one.claim.alone]
        beside = [one for one in experiments if not one.claim.alone]
        found: dict[str, Course] = {}
        with self._switched_off():
            if beside:
                self._say(f"control runs, healer paused: {', '.join(one.name for one in beside)}")
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                courses = pool.map(lambda one: self._bout(one, control=True), beside)
                found.update(zip((one.name for one in beside), courses, strict=True))
            for one in alone:
                if not self._time_for(one):
                    continue
                self._say(f"control run, healer paused: {one.name}")
                found[one.name] = self._bout(one, control=True)
            # What the controls left behind must be over before healer may act again.
            self._calm()
        for name, course in found.items():
            self._say(f"  control of {name}: {_told(course)}")
        return found

    @contextmanager
    def _switched_off(self) -> Iterator[None]:
        """healer's own kill switch, for a limited time."""
        pause = self._healer.pause("chaos: control runs with remediation off", PAUSE_SECONDS)
        try:
            yield
        finally:
            self._healer.resume(pause)

    # ------------------------------------------------------------------------------ healing

    def _one(self, experiment: Experiment, control: Course | None) -> Result:
        if not self._time_for(experiment):
            return Result(experiment, not_run("the time budget (--seconds) was used up"))
        if self._with_control and control is None:
            return Result(experiment, not_run("no time was left for its control run"))
        self._say(f"{experiment.name}: {experiment.claim.fault}")
        course = self._bout(experiment, control=False)
        verdict = judge(experiment.claim, course, control)
        self._say(
            f"  {verdict.status}: {verdict.outcome}, credit {verdict.credit}; {_told(course)}"
        )
        for problem in verdict.problems:
            self._say(f"    {problem}")
        return Result(experiment, verdict, course, control)

    def _bout(self, experiment: Experiment, *, control: bool) -> Course:
        """One run; what keeps it from running is told, not raised: the others still can."""
        bout = Bout(experiment, self._site, self._folder, self._tag, control=control)
        try:
            bout.prepare()
            if not control:
                self._calm()
            return bout.run()
        except (ChaosError, OSError) as error:
            return Course(broken=str(error))
        finally:
            bout.clear()

    def _calm(self) -> None:
        """Wait until no alert is about the namespace and healer has nothing open there."""

        def calm() -> bool:
            space = self._site.namespace
            if alerts_in(self._site, space):
                return False
            return not any(
                one["labels"].get("namespace") == space and one["state"] != "closed"
                and one["firing"]
                for one in self._healer.episodes()
            )  # fmt: skip

        until(calm, "the alerts of what ran before to end", timeout=CALM_SECONDS, interval=0.5)

    def _time_for(self, experiment: Experiment) -> bool:
        within = experiment.claim.within
        return self._end is None or now() + within.detect + within.heal + within.stable < self._end


def _told(course: Course) -> str:
    if course.broken or course.fault_at is None:
        return f"shows nothing: {course.broken}"
    zero = course.fault_at
    named = (("deviated", course.deviated_at), ("returned", course.returned_at))
    times = [f"{name} {at - zero:.1f} s" for name, at in named if at is not None]
    return f"{', '.join(times) or 'never deviated'}; {len(course.actions)} actions"
