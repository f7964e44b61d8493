"""A running webhook, as a test sees it."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from healer.web.conditions import Conditions
from healer.web.metrics import Instruments
from healer.web.webhook import Webhook


@dataclass
class Door:
    """A running webhook and what it told its hooks."""

    url: str
    http: aiohttp.ClientSession
    store: Any
    webhook: Webhook
    instruments: Instruments
    conditions: Conditions
    port: int
    accepted: list[None] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)

    async def post(self, body: Any, path: str = "/v1/alertmanager", **kwargs: Any) -> Any:
        """One delivery; returns the answer, read."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.url + path, data=io.BytesIO(data), **kwargs) as answer:
            await answer.read()
            return answer

    def sample(self, name: str, **labels: str) -> float:
        """The value of one of our metrics."""
        return self.instruments.registry.get_sample_value(name, labels) or 0.0

    def condition(self) -> list[str]:
        """Names of the conditions in force."""
        return [condition.name for condition in self.conditions.active()]
