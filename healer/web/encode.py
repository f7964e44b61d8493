"""Domain values as JSON, field for field: the names in the API are the names in the code."""

from typing import Any

import msgspec
from aiohttp import web

_encoder = msgspec.json.Encoder(enc_hook=str)


def answer(value: Any, status: int = 200) -> web.Response:
    """`value` (domain values, mappings, sequences) as a JSON answer."""
    return web.Response(
        status=status, body=_encoder.encode(value) + b"\n", content_type="application/json"
    )


def refuse(status: int, problem: str) -> web.Response:
    """An error: always `{"error": "what is wrong; what to do"}`."""
    return answer({"error": problem}, status)
