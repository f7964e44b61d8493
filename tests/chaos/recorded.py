"""Journals of the real toolkit, recorded on the test bed, and ways to bend them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from chaos.catalogue import load
from chaos.claim import Claim
from chaos.course import read
from chaos.verdict import Verdict, judge

FOLDER = Path(__file__).with_name("journals")
Json = dict[str, Any]


def journal(experiment: str, run: str = "healing") -> Json:
    """One recorded journal; recordings hold what is read, and leave the rest out."""
    found: Json = json.loads((FOLDER / f"{experiment}.{run}.json").read_text())
    return found


def claim(experiment: str) -> Claim:
    """The claim of that experiment."""
    return load(only=[experiment])[0].claim


def verdict(experiment: str, healing: Json, control: Json | None) -> Verdict:
    """The judgement of two journals."""
    beside = read(control) if control is not None else None
    return judge(claim(experiment), read(healing), beside)


def output(it: Json, name: str) -> Json:
    """What that activity of the method told."""
    found: Json = next(run["output"] for run in it["run"] if run["activity"]["name"] == name)
    return found


def actions(it: Json) -> list[Json]:
    """The actions in the first episode with any."""
    found: list[Json] = next(
        episode["actions"] for episode in output(it, "watch")["episodes"] if episode["actions"]
    )
    return found


def states(it: Json) -> list[Json]:
    """Every look at the steady state from the method on."""
    return [*it["steady_states"]["during"], it["steady_states"]["after"]]


def make(state: Json, *, well: bool) -> None:
    """Make one look say that all is well, or not."""
    state["steady_state_met"] = well
    state["probes"][-1]["output"] = state["probes"][-1]["tolerance_met"] = well


def unasked(state: Json) -> None:
    """Make one look one that could not be made: the toolkit calls the steady state not met."""
    state["steady_state_met"] = False
    state["probes"][-1].update({"status": "failed", "output": None, "tolerance_met": False})


def again(it: Json) -> Json:
    """A copy to bend."""
    return copy.deepcopy(it)
