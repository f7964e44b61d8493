"""Hostile deliveries: whatever comes, the answer is quick, and no 5xx but 503."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healer.domain.alert import Alert
from healer.settings.listen import Limits
from healer.web.alertmanager import Malformed, TooLarge, parse
from tests.web.door import Door
from tests.web.payloads import alert, group

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
_TIMES = st.sampled_from([
    "2026-01-05T10:48:17Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:60Z", "2026-01-05T10:48:17+99:99", "",
])  # fmt: skip
_ALERT = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["firing", "resolved", "FIRING"]) | _JSON,
        "labels": st.dictionaries(st.text(max_size=9), st.text(max_size=9)) | _JSON,
        "annotations": st.dictionaries(st.text(max_size=9), st.text(max_size=9)) | _JSON,
        "startsAt": _TIMES | _JSON,
        "endsAt": _TIMES | _JSON,
        "generatorURL": _JSON,
        "fingerprint": st.text(alphabet="0123456789abcdef", max_size=20) | _JSON,
        "extra": _JSON,
    },
)
_DELIVERY = st.fixed_dictionaries(
    {"alerts": st.lists(_ALERT | _JSON, max_size=6)},
    optional={"receiver": _JSON, "truncatedAlerts": _JSON, "status": _JSON, "version": _JSON},
)


@given(_DELIVERY, st.booleans())
@settings(max_examples=400, deadline=None)
def test_every_alert_is_accepted_or_rejected(delivery: dict[str, Any], ascii_only: bool) -> None:
    """Each element of `alerts` comes out exactly once, valid within the limits or rejected."""
    body = json.dumps(delivery, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        found = parse(body, "test", Limits())
    except Malformed:
        return  # not JSON: NaN and lone surrogates that Python writes and nobody else reads
    assert len(found.alerts) + len(found.rejected) == len(delivery["alerts"])
    for one in found.alerts:
        assert one.labels
        assert one.starts_at >= 0
        assert len(one.fingerprint) == 16
        assert len(one.event_id) == 64
        json.dumps([dict(one.labels), dict(one.annotations)]).encode()
        str(one.labels).encode()


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_understood_or_malformed(body: bytes) -> None:
    """Bytes of any kind are a delivery, malformed or too large, and nothing else is raised."""
    with contextlib.suppress(Malformed, TooLarge):
        parse(body, "test", Limits())


@given(bodies=st.lists(st.binary(max_size=200) | _DELIVERY, min_size=1, max_size=5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_the_wire_answers_2xx_4xx_or_503(door: Door, bodies: list[Any]) -> None:
    """Over the wire every payload is answered, with 2xx or 4xx, and the next one still passes."""
    for body in bodies:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert (await door.post(raw)).status in {200, 400, 413}
    assert (await door.post(group(alert()))).status == 200


_MEGA = 1 << 20
_ONE = json.dumps(alert()).encode()
_BOMBS: dict[str, Callable[[], bytes]] = {
    "millions of numbers": lambda: b'{"alerts": [' + b"1," * (15 * _MEGA) + b"1]}",
    "millions of objects": lambda: b'{"alerts": [' + b"{}," * (10 * _MEGA) + b"{}]}",
    "an alert, then numbers": lambda: b'{"alerts": [' + _ONE + b",1" * (15 * _MEGA) + b"]}",
    "deep nesting": lambda: b'{"alerts": ' + b"[" * (15 * _MEGA) + b"]" * (15 * _MEGA) + b"}",
    "a huge label": lambda: b'{"alerts": [{"labels": {"a": "' + b"x" * (31 * _MEGA) + b'"}}]}',
    "a huge unknown key": lambda: b'{"alerts": [], "x": [' + b"[]," * (10 * _MEGA) + b"1]}",
    "too many real alerts": lambda: b'{"alerts": [' + b",".join([_ONE] * 51_000) + b"]}",
    "escapes": lambda: b'{"alerts": [], "x": "' + b"\\u0041" * (5 * _MEGA) + b'"}',
    "spaces": lambda: b" " * (31 * _MEGA),
}


@pytest.mark.parametrize("name", list(_BOMBS))
async def test_no_payload_stalls_the_event_loop(doors: Callable[..., Any], name: str) -> None:
    """While a body of 32 MiB made to hurt is handled, timers go on firing and the answer is 4xx."""
    door = await doors()
    body = _BOMBS[name]()
    assert len(body) <= Limits().body_bytes
    worst = 0.0
    done = asyncio.Event()

    async def heartbeat() -> None:
        nonlocal worst
        while not done.is_set():
            # CPU of this process: other work on the machine is not taken for a stall.
            began = time.process_time()
            await asyncio.sleep(0.005)  # noqa: TID251 - the beat whose lateness is measured
            worst = max(worst, time.process_time() - began)

    beat = asyncio.create_task(heartbeat())
    delivery = await _parsed(door, body)
    done.set()
    await beat
    assert delivery in {"Malformed", "TooLarge", "Delivery"}
    assert worst < 0.15  # 50 ms, and room for a slower machine


async def _parsed(door: Door, body: bytes) -> str:
    """What becomes of the body, by the webhook's own path off the loop."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(None, parse, body, "test", Limits())
    except (Malformed, TooLarge) as error:
        return type(error).__name__
    return type(found).__name__


def test_a_rejected_alert_is_kept_short() -> None:
    """Of an alert that is rejected no more than 16 KiB are kept."""
    body = json.dumps({"alerts": [{"labels": {"a": "x" * 100_000}}]}).encode()
    (rejected,) = parse(body, "test", Limits()).rejected
    assert len(rejected.payload.encode()) <= 16_384
    assert isinstance(rejected.problem, str)


def test_long_annotations_are_cut_and_not_refused() -> None:
    """Annotations are no identity: a long one is cut and the alert is accepted."""
    long = alert(annotations={"description": "x" * 20_000})
    (one,) = parse(json.dumps({"alerts": [long]}).encode(), "test", Limits()).alerts
    assert isinstance(one, Alert)
    assert len(one.annotations["description"]) == 16_384
