"""Watches healer keep still: it must say why, and do nothing."""

from typing import Any

from chaos.clock import now, pause
from chaos.errors import ChaosError
from chaos.play import current
from chaos.probes.evidence import pages, stories

Configuration = dict[str, Any]


def until_held(configuration: Configuration | None = None) -> dict[str, Any]:
    """Wait until healer says of every target why it keeps still, and some seconds more.

    With remediation off only the alert is waited for. It ends after the time to detect in any case,
    and the verdict says what was missing.
    """
    play = current(configuration)
    notes, claim = play.notes, play.claim
    if claim.hold is None or notes.fault_at is None:
        raise ChaosError("there was no fault, or the claim does not say how healer is to hold")
    end = notes.fault_at + claim.within.detect + claim.hold.seconds + 15.0
    names = {one.name for one in notes.targets}
    since: float | None = None
    while now() < end:
        play.look_for_alert()
        try:
            if play.control:
                held = notes.alert_at is not None
            else:
                told = {
                    story["labels"].get(claim.label)
                    for story in stories(play, notes.fault_at)
                    if any(one["reason"] in claim.hold.reasons for one in story["held"])
                }
                woken = pages(play, notes.fault_at) if claim.hold.pages else None
                held = names <= told and (woken is None or len(woken) >= (claim.hold.pages or 0))
        except (OSError, ChaosError):
            held = False
        since = (since or now()) if held else None
        if since is not None and now() - since >= claim.hold.seconds:
            break
        pause(0.4)
    # With remediation off there is nobody who could hold.
    return {"at": now(), "held_at": None if play.control else since}
