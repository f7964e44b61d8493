"""Notices survive the journal, and what is not a notice is named."""

import json
from typing import Any

import pytest

from healer.domain.message import Notice, NoticeEvent, Severity

NOTICE = Notice(
    NoticeEvent.TRIGGER,
    Severity.CRITICAL,
    "payments is down",
    "Restarted twice.",
    1767571200.5,
    "ep-1",
    "restart",
    "Deployment/shop/payments",
    "not_recovered",
    {"alertname": "Down"},
    {"runbook": "https://example.com/r"},
    {"logs": "panic: x"},
)


def test_a_notice_comes_back_from_json_unchanged() -> None:
    """What was written to the journal as JSON is the same notice when it is read."""
    assert Notice.from_mapping(json.loads(json.dumps(NOTICE.to_mapping()))) == NOTICE


def test_keys_of_a_later_version_are_ignored() -> None:
    """A notice that a newer version queued can still be delivered by an older one."""
    assert Notice.from_mapping({**NOTICE.to_mapping(), "new": 1}) == NOTICE


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"event": "ack"}, "ack"),
        ({"severity": "page"}, "page"),
        ({"at": None}, "TypeError"),
        ({"title": 5}, "title"),
        ({"text": None}, "text"),
        ({"labels": {"a": 1}}, "labels"),
        ({"links": []}, "links"),
    ],
)
def test_what_is_not_a_notice_is_named(change: dict[str, Any], named: str) -> None:
    """A wrong value raises ValueError that names the key or the value."""
    with pytest.raises(ValueError, match=named):
        Notice.from_mapping({**NOTICE.to_mapping(), **change})


def test_a_missing_title_is_named() -> None:
    """A key without which nobody could be told anything is required."""
    body = NOTICE.to_mapping()
    del body["title"]
    with pytest.raises(ValueError, match="title"):
        Notice.from_mapping(body)
