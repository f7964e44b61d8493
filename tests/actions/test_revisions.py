"""Which earlier revision was healthy."""

from typing import Any

import pytest

from healer.actions.revisions import Revision, choose, template_identity
from healer.errors import Refused

SOAK = 600.0
DAY = 86400.0


def template(image: str, **marks: str) -> dict[str, Any]:
    return {"metadata": {"annotations": marks}, "spec": {"containers": [{"image": image}]}}


def revision(number: int, image: str, at: float = 0.0, **more: Any) -> Revision:
    return Revision(f"web-{number}", number, template(image), at, **more)


def test_the_one_that_serves_wins() -> None:
    """A stuck rollout goes back to what still has ready pods, past a newer one that never had."""
    history = [revision(1, "a", ready=2), revision(2, "b", DAY), revision(3, "c", 3 * DAY)]
    found = choose(history, template("c"), frozenset(), SOAK)
    assert found.revision.number == 1
    assert "2 ready pods" in found.why


def test_a_mark_beats_time() -> None:
    """A revision marked healthy wins over a newer one that was only long in charge."""
    history = [revision(1, "a", marked="true"), revision(2, "b", DAY), revision(3, "c", 3 * DAY)]
    assert choose(history, template("c"), frozenset(), SOAK).revision.number == 1


def test_a_short_lived_one_is_passed_over() -> None:
    """A release that was replaced within minutes was most likely broken, so it is not chosen."""
    history = [revision(1, "a"), revision(2, "b", DAY), revision(3, "c", DAY + 60)]
    assert choose(history, template("c"), frozenset(), SOAK).revision.number == 1


def test_newest_of_equals() -> None:
    """Among revisions with the same reason the newest is chosen."""
    history = [revision(1, "a"), revision(2, "b", DAY), revision(3, "c", 2 * DAY)]
    assert choose(history, template("c"), frozenset(), SOAK).revision.number == 2


def test_what_was_left_is_never_chosen_again() -> None:
    """After healer rolled away from b to a, and c is bad too, it goes to a and never to b."""
    bad = template_identity(template("b"))
    history = [revision(1, "a"), revision(2, "b", DAY), revision(3, "c", 5 * DAY)]
    assert choose(history, template("c"), frozenset(), SOAK).revision.number == 2
    assert choose(history, template("c"), frozenset({bad}), SOAK).revision.number == 1


def test_what_was_gone_back_to_is_trusted() -> None:
    """A revision that somebody went back to before wins over one that was only long in charge."""
    history = [
        revision(2, "b", DAY),
        revision(3, "a", 0.0, returned_to=True),
        revision(4, "d", 3 * DAY),
        revision(5, "c", 5 * DAY),
    ]
    assert choose(history, template("c"), frozenset(), SOAK).revision.number == 3


def test_a_restart_is_no_release() -> None:
    """A revision that differs from the present one only by a restart would change nothing."""
    restarted = template("c", **{"kubectl.kubernetes.io/restartedAt": "2026-01-05T00:00:00Z"})
    history = [revision(1, "a"), revision(2, "c", 2 * DAY), revision(3, "c", 4 * DAY)]
    assert choose(history, restarted, frozenset(), SOAK).revision.number == 1


def test_marked_bad() -> None:
    """A revision marked healer.dev/healthy=false is not chosen, even if nothing else is left."""
    history = [revision(1, "a", marked="false"), revision(2, "b", DAY)]
    with pytest.raises(Refused, match=r"healer\.dev/healthy=false"):
        choose(history, template("b"), frozenset(), SOAK)


def test_no_reason_is_a_refusal_that_says_why() -> None:
    """Without any revision that can be believed in nothing is chosen, and each is explained."""
    history = [revision(1, "a"), revision(2, "b", 60.0)]
    with pytest.raises(Refused, match=r"revision 1 \(web-1\) was in charge for 1m"):
        choose(history, template("b"), frozenset(), SOAK)
    with pytest.raises(Refused, match="no other revision"):
        choose(history[1:], template("b"), frozenset(), SOAK)


def test_a_completed_rollout_is_a_reason() -> None:
    """A StatefulSet's last completed revision is chosen without waiting for a soak."""
    history = [revision(1, "a", completed=True), revision(2, "b", 60.0)]
    assert choose(history, template("b"), frozenset(), SOAK).revision.number == 1
