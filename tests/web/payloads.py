"""Deliveries as Alertmanager 0.28 writes them (recorded shape, invented labels)."""

from typing import Any


def alert(number: int = 0, **changes: Any) -> dict[str, Any]:
    """One alert."""
    return {
        "status": "firing",
        "labels": {
            "alertname": "PodCrashLooping",
            "namespace": "shop",
            "pod": f"api-{number}",
            "container": "api",
            "severity": "warning",
            "job": "kube-state-metrics",
            "instance": "10.1.0.7:8080",
            "prometheus": "monitoring/k8s",
        },
        "annotations": {
            "summary": f"Pod shop/api-{number} is crash looping.",
            "runbook_url": "https://runbooks.example/PodCrashLooping",
        },
        "startsAt": "2026-01-05T10:48:17.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph?g0.expr=up&g0.tab=1",
        "fingerprint": f"{number + 0xABCDEF:016x}",
        **changes,
    }


def group(*alerts: Any, **changes: Any) -> dict[str, Any]:
    """A delivery of these alerts."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="PodCrashLooping"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "healer",
        "groupLabels": {"alertname": "PodCrashLooping"},
        "commonLabels": {"alertname": "PodCrashLooping", "namespace": "shop"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "notification_reason": "first notification",
        "routeLabels": {},
        "alerts": list(alerts),
        **changes,
    }
