"""The last activity of every method: watch until it is over, then tell all that was seen."""

from importlib import import_module
from typing import Any

from chaos.clock import now, pause
from chaos.errors import ChaosError
from chaos.play import Play, current
from chaos.probes.evidence import audited, pages, stories

Configuration = dict[str, Any]
LOOK_SECONDS = 0.4


def until_settled(more: float = 0.0, configuration: Configuration | None = None) -> dict[str, Any]:
    """Watch until the steady state is back and stays, or the time for it (and `more`) is over.

    With remediation on, healer's own books must be closed too: a second action would come late.
    """
    play = current(configuration)
    notes, within = play.notes, play.claim.within
    if notes.fault_at is None:
        raise ChaosError("there was no fault, so there is nothing to watch")
    start = notes.released_at or notes.fault_at
    end = start + within.heal + within.stable + more
    well_since: float | None = None
    while now() < end:
        play.look_for_alert()
        well = steady(play, configuration)
        if well is False:
            notes.deviated, well_since = True, None
        elif well and well_since is None:
            well_since = now()
        if not notes.deviated and now() > notes.fault_at + within.deviate + 2.0:
            break  # void: the verdict says so
        stable = notes.deviated and well_since is not None and now() - well_since >= within.stable
        if stable and (play.control or closed(play)):
            break
        pause(LOOK_SECONDS)
    return seen(play)


def steady(play: Play, configuration: Configuration | None) -> bool | None:
    """The experiment's own hypothesis, asked once more; None when it could not be asked."""
    for probe in play.hypothesis:
        provider = probe["provider"]
        func = getattr(import_module(provider["module"]), provider["func"])
        try:
            answer = func(**provider.get("arguments", {}), configuration=configuration)
        except (OSError, ChaosError, RuntimeError):
            return None
        if answer != probe["tolerance"]:
            return False
    return True


def closed(play: Play) -> bool:
    """Whether every target that was left to healer has an episode, and all episodes are over."""
    assert play.notes.fault_at is not None
    try:
        found = stories(play, play.notes.fault_at)
    except (OSError, ChaosError):
        return False
    if any(story["state"] in {"open", "running", "blocked"} for story in found):
        return False
    if play.claim.expects == "nothing":
        return True
    told = {story["labels"].get(play.claim.label) for story in found}
    return all(one.name in told for one in play.notes.targets if one.name not in play.notes.spared)


def seen(play: Play) -> dict[str, Any]:
    """All evidence since the fault."""
    since = play.notes.fault_at
    assert since is not None
    return {
        "at": now(),
        "alert_at": play.notes.alert_at,
        "episodes": stories(play, since),
        "audit": audited(play, since),
        "pages": pages(play, since),
    }
