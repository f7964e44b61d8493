"""What is asked over HTTP: Prometheus, Alertmanager, and healer's own API."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from chaos.errors import ChaosError
from chaos.site import HealerAccess, Site

TIMEOUT_SECONDS = 5.0


def ask(method: str, url: str, *, token: str = "", body: Any = None) -> Any:
    """One JSON call; OSError when nobody answers, ChaosError for a refusal."""
    if not url.startswith(("http://", "https://")):
        raise ChaosError(f"{url!r} is no http address")
    headers = {"Accept": "application/json", "User-Agent": "healer-chaos"}
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, method=method, data=data, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")[:300]
        raise ChaosError(f"{method} {url}: {error.code}: {said}") from error
    return json.loads(text) if text else None


def firing(site: Site, alert: str) -> list[dict[str, str]]:
    """The labels of each firing alert of that name, as Prometheus holds it now."""
    data = ask("GET", f"{site.prometheus}/api/v1/alerts")["data"]["alerts"]
    return [
        one["labels"]
        for one in data
        if one["state"] == "firing" and one["labels"].get("alertname") == alert
    ]


def alerts_in(site: Site, namespace: str) -> list[dict[str, str]]:
    """The labels of every pending or firing alert about the namespace."""
    data = ask("GET", f"{site.prometheus}/api/v1/alerts")["data"]["alerts"]
    return [one["labels"] for one in data if one["labels"].get("namespace") == namespace]


def held_alerts(site: Site) -> list[dict[str, Any]]:
    """The alerts that Alertmanager holds."""
    return list(ask("GET", f"{site.alertmanager}/api/v2/alerts"))


def value(site: Site, expression: str) -> list[float]:
    """The values of an instant query."""
    query = urllib.parse.urlencode({"query": expression})
    data = ask("GET", f"{site.prometheus}/api/v1/query?{query}")["data"]["result"]
    return [float(one["value"][1]) for one in data]


class Healer:
    """healer's API, with a viewer's token; an operator's only to pause it."""

    def __init__(self, access: HealerAccess) -> None:
        self._access = access

    def _token(self) -> str:
        file = self._access.token_file
        return file.read_text().strip() if file is not None else ""

    def episodes(self) -> list[dict[str, Any]]:
        """Episodes, newest first."""
        answer = ask("GET", f"{self._access.url}/v1/episodes?limit=500", token=self._token())
        return list(answer["episodes"])

    def story(self, episode: str) -> dict[str, Any]:
        """One episode with its runs and facts."""
        answer = ask("GET", f"{self._access.url}/v1/episodes/{episode}", token=self._token())
        return dict(answer)

    def pause(self, reason: str, seconds: float) -> str:
        """Pause everything for at most so long; the pause's id."""
        body = {"reason": reason, "by": "chaos", "seconds": seconds}
        answer = ask("POST", f"{self._access.url}/v1/pauses", token=self._operator(), body=body)
        return str(answer["pause"]["id"])

    def resume(self, pause: str) -> None:
        """End that pause."""
        ask("DELETE", f"{self._access.url}/v1/pauses/{pause}", token=self._operator())

    def _operator(self) -> str:
        file = self._access.pause_token_file
        if file is None:
            raise ChaosError(
                "control runs need healer paused: name an operator's token as "
                "`healer.pause_token_file`, or leave control runs out with --no-control"
            )
        return file.read_text().strip()
