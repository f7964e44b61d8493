"""Faults of healer itself and of its way to the API server."""

from typing import Any

from chaos.clock import now, pause
from chaos.errors import ChaosError
from chaos.play import Play, current
from chaos.probes.evidence import stories
from chaos.site import HookName

Configuration = dict[str, Any]
LOOK_SECONDS = 0.05


def slow_api(configuration: Configuration | None = None) -> dict[str, Any]:
    """Delay everything that healer says to the API server."""
    return _pull("slow_api", configuration)


def fast_api(configuration: Configuration | None = None) -> dict[str, Any]:
    """End the delay."""
    return _pull("fast_api", configuration)


def kill_mid_action(configuration: Configuration | None = None) -> dict[str, Any]:
    """SIGKILL healer as soon as an intent is in its journal, and start it again.

    Tells when it died; whether that was between intent and outcome is read from the journal later.
    """
    play = current(configuration)
    play.require_allowed()
    if play.control:
        return {"at": now(), "skipped": True}
    _wait_for_intent(play)
    killed_at = now()
    play.site.hook("kill_healer")
    dead_at = now()
    pause(0.5)
    play.site.hook("start_healer")
    return {"at": killed_at, "killed_at": killed_at, "dead_at": dead_at, "back_at": now()}


def _wait_for_intent(play: Play) -> None:
    since = play.notes.fault_at
    if since is None:
        raise ChaosError("there was no fault, so there is no action to interrupt")
    end = since + play.claim.within.detect + 30.0
    while now() < end:
        play.look_for_alert()
        try:
            if any(story["actions"] for story in stories(play, since)):
                return
        except (OSError, ChaosError):
            pass  # healer is slow to answer; the next look tells
        pause(LOOK_SECONDS)
    raise ChaosError("healer began no action, so it was not killed in the middle of one")


def _pull(name: HookName, configuration: Configuration | None) -> dict[str, Any]:
    play = current(configuration)
    play.require_allowed()
    if not play.control:
        play.site.hook(name)
    return {"at": now(), "skipped": play.control}
