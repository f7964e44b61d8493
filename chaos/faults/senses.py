"""Faults of what healer sees and hears: Prometheus out of reach, Alertmanager repeating itself."""

from typing import Any

from chaos.clock import now, pause, until
from chaos.errors import ChaosError
from chaos.play import current
from chaos.web import ask, held_alerts

Configuration = dict[str, Any]
REPEATS = 12


def blind(configuration: Configuration | None = None) -> dict[str, Any]:
    """Take Prometheus out of healer's reach; with remediation off there is nobody to blind."""
    play = current(configuration)
    play.require_allowed()
    if not play.control:
        play.site.hook("blind_prometheus")
    return {"at": now(), "skipped": play.control}


def sight(configuration: Configuration | None = None) -> dict[str, Any]:
    """Give it back."""
    play = current(configuration)
    if not play.control:
        play.site.hook("sight_prometheus")
    return play.released([])


def see(configuration: Configuration | None = None) -> dict[str, Any]:
    """Make sure that Prometheus is in reach again, whatever became of the method."""
    play = current(configuration)
    if not play.control:
        play.site.hook("sight_prometheus")
    return {"at": now()}


def repeat_alerts(late: bool = False, configuration: Configuration | None = None) -> dict[str, Any]:
    """Post what Alertmanager knows of the targets again and again, as peers without gossip do.

    `late`: after the healing, a peer that was cut off repeats the old firing and its end.
    """
    play = current(configuration)
    play.require_allowed()
    if play.control:
        return {"at": now(), "sent": 0}
    if late:
        pause(2.0)
    claim, names = play.claim, {one.name for one in play.notes.targets}
    if not late:

        def known() -> list[dict[str, Any]]:
            play.look_for_alert()
            return [
                one
                for one in held_alerts(play.site)
                if one["labels"].get("alertname") == claim.alert
                and one["labels"].get(claim.label) in names
            ]

        _KNOWN[play.victim] = until(known, "Alertmanager to hold the alert", timeout=60)
    file = play.site.healer.webhook_token_file
    token = file.read_text().strip() if file is not None else ""
    alerts = _KNOWN.get(play.victim, [])
    if not alerts:
        raise ChaosError("Alertmanager never held the alert, so nothing could be repeated")
    for number in range(REPEATS):
        body = _payload(claim.alert, alerts, peer=number % 3)
        ask("POST", play.site.healer.webhook, token=token, body=body)
    return {"at": now(), "sent": REPEATS}


#: What Alertmanager held, by victim: the late repetition comes when it has forgotten.
_KNOWN: dict[str, list[dict[str, Any]]] = {}


def _payload(name: str, alerts: list[dict[str, Any]], *, peer: int) -> dict[str, Any]:
    """A webhook body, version 4; each peer groups in its own way."""
    group = [{}, {"alertname": name}, {"alertname": name, "namespace": "x"}][peer]
    return {
        "version": "4",
        "groupKey": f"{{}}/peer-{peer}:{group}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "healer",
        "groupLabels": group,
        "commonLabels": {"alertname": name},
        "commonAnnotations": {},
        "externalURL": f"http://alertmanager-{peer}.invalid",
        "alerts": [
            {
                "status": "firing",
                "labels": one["labels"],
                "annotations": one["annotations"],
                "startsAt": one["startsAt"],
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": one.get("generatorURL", ""),
                "fingerprint": one["fingerprint"],
            }
            for one in alerts
        ],
    }
