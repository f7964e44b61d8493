"""How one run went, read from the journal of the Chaos Toolkit. Pure.

The toolkit's own `deviated` says only how the steady state was after the method: a fault that was
healed meanwhile reads as "not deviated". So the samples that it took during the method are read.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One look at the steady state; None: it could not be asked, which is no deviation."""

    at: float
    well: bool | None


@dataclass(frozen=True)
class Action:
    """One disruptive step of healer, as its journal tells."""

    action: str
    kind: str
    name: str
    undo: bool
    intent_at: float
    outcome: str | None
    outcome_at: float | None
    run_finished_at: float | None

    @property
    def target(self) -> str:
        """Kind and name."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Course:
    """What one run showed. Times are Unix seconds."""

    broken: str = ""  #: why it shows nothing at all; empty when it ran
    samples: tuple[Sample, ...] = ()
    before: bool | None = None
    after: bool | None = None
    struck_from: float = 0.0  #: when the fault began to be made
    fault_at: float | None = None
    released_at: float | None = None
    held_at: float | None = None
    alert_at: float | None = None
    killed_at: float | None = None
    dead_at: float | None = None
    targets: tuple[tuple[str, str], ...] = ()  #: kind, name
    spared: frozenset[str] = frozenset()
    episodes: tuple[Json, ...] = ()
    audit: tuple[Json, ...] | None = None
    pages: tuple[Json, ...] | None = None
    faults: tuple[str, ...] = field(default=())  #: activities that failed

    @property
    def deviated_at(self) -> float | None:
        """When the steady state was first seen not to hold, after the fault."""
        return next(
            (s.at for s in self.samples if s.well is False and s.at >= self.struck_from), None
        )

    @property
    def returned_at(self) -> float | None:
        """From when on it held until the end."""
        if self.deviated_at is None:
            return None
        known = [s for s in self.samples if s.well is not None and s.at >= self.deviated_at]
        last_bad = max(number for number, s in enumerate(known) if not s.well)
        return known[last_bad + 1].at if last_bad + 1 < len(known) else None

    @property
    def ended_at(self) -> float:
        """The last look."""
        return self.samples[-1].at if self.samples else 0.0

    @property
    def actions(self) -> tuple[Action, ...]:
        """Everything healer did, in order; what certainly had no effect is left out.

        An action found done already after an interruption is the one that was interrupted.
        """
        found: dict[tuple[str, str, str, bool], list[Json]] = {}
        for episode in self.episodes:
            for one in episode["actions"]:
                key = (episode["id"], one["action"], one["name"], one["undo"])
                found.setdefault(key, []).append(one)
        kept = []
        for records in found.values():
            real = [one for one in records if one["outcome"] in {"applied", "unknown", None}]
            kept += real or [one for one in records if one["outcome"] == "already_done"][:1]
        ordered = sorted(kept, key=lambda one: one["intent_at"])
        return tuple(
            Action(
                one["action"], one["kind"], one["name"], one["undo"], one["intent_at"],
                one["outcome"], one["outcome_at"], one["run_finished_at"],
            )
            for one in ordered
        )  # fmt: skip


def read(journal: Json) -> Course:
    """The course in a journal; `broken` says why there is none."""
    states = journal.get("steady_states") or {}
    before = _met(states.get("before"))
    if before is not True:
        return Course(broken="the steady state did not hold before the fault", before=before)
    outputs: dict[str, Json] = {}
    failed: list[str] = []
    struck_from = 0.0
    for run in journal.get("run", []):
        name = run["activity"]["name"]
        if run.get("status") != "succeeded":
            failed.append(f"{name}: {(run.get('exception') or ['it failed'])[-1].strip()}")
        if name == "fault":
            struck_from = _seconds(run["start"])
        outputs[name] = run.get("output") or {}
    # The rollbacks put the world in order, and are judged like the method.
    failed += [
        f"{run['activity']['name']}: {(run.get('exception') or ['it failed'])[-1].strip()}"
        for run in journal.get("rollbacks", [])
        if run.get("status") != "succeeded"
    ]
    fault, watch = outputs.get("fault", {}), outputs.get("watch", {})
    if "at" not in fault or "at" not in watch:
        why = "; ".join(failed) or f"the experiment was {journal.get('status')}"
        return Course(broken=why, before=before, faults=tuple(failed))
    samples = [_sample(state) for state in states.get("during", []) if state.get("probes")]
    if (states.get("after") or {}).get("probes"):
        samples.append(_sample(states["after"]))
    kill = outputs.get("kill", {})
    audit, pages = watch.get("audit"), watch.get("pages")
    return Course(
        samples=tuple(samples),
        before=before,
        after=_met(states.get("after")),
        struck_from=struck_from,
        fault_at=fault["at"],
        released_at=outputs.get("release", {}).get("at"),
        held_at=outputs.get("hold", {}).get("held_at"),
        alert_at=watch.get("alert_at"),
        killed_at=kill.get("killed_at"),
        dead_at=kill.get("dead_at"),
        targets=tuple((one["kind"], one["name"]) for one in fault["targets"]),
        spared=frozenset(outputs.get("release", {}).get("spared", [])),
        episodes=tuple(watch["episodes"]),
        audit=None if audit is None else tuple(audit),
        pages=None if pages is None else tuple(pages),
        faults=tuple(failed),
    )


def _met(state: Json | None) -> bool | None:
    """Whether the steady state held; None when a probe could not be asked."""
    if not state or not state.get("probes"):
        return None
    if any(probe["status"] == "failed" for probe in state["probes"]):
        return None
    return bool(state["steady_state_met"])


def _sample(state: Json) -> Sample:
    return Sample(_seconds(state["probes"][-1]["start"]), _met(state))


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
