"""Episodes: how deliveries open, merge and resolve them, in any order and number."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.alert import AlertStatus, matches_all, parse_matchers
from healer.domain.episode import Episode, EpisodeState, FoldKind, fold
from healer.domain.playbook import Trigger, TriggerKind
from healer.domain.selection import NotSelected, Selected, choose
from healer.kernel.ids import label_fingerprint
from healer.testing.builders import a_playbook, an_alert, an_episode
from healer.testing.clock import START

RESOLVED = an_alert(status=AlertStatus.RESOLVED, ends_at=START + 60)


def _closed(episode: Episode | None) -> Episode:
    assert episode is not None
    return replace(episode, state=EpisodeState.CLOSED)


def test_the_first_firing_opens_and_repeats_merge() -> None:
    """A delivery repeated by a peer changes nothing but when it was last seen."""
    opened = fold(None, an_alert(), START)
    assert opened.kind is FoldKind.OPENED
    merged = fold(opened.episode, an_alert(), START + 30)
    assert merged.kind is FoldKind.MERGED
    assert merged.episode is not None
    assert merged.episode.last_seen_at == START + 30
    assert merged.episode.next_at == opened.episode.next_at if opened.episode else False


def test_a_resolution_makes_the_episode_due_and_leaves_the_rest_to_its_worker() -> None:
    """Resolving only marks: the state belongs to whoever works on the episode."""
    running = an_episode(state=EpisodeState.RUNNING)
    resolved = fold(running, RESOLVED, START + 61).episode
    assert resolved is not None
    assert (resolved.firing, resolved.state) == (False, EpisodeState.RUNNING)
    assert resolved.next_at == START + 61


def test_a_firing_that_began_before_the_last_end_is_stale() -> None:
    """What a slow peer sends after the resolution opens no second episode."""
    over = _closed(fold(an_episode(), RESOLVED, START + 61).episode)
    assert fold(over, an_alert(), START + 65).kind is FoldKind.STALE
    again = fold(over, an_alert(starts_at=START + 70), START + 75)
    assert again.kind is FoldKind.OPENED
    assert again.episode is not None
    assert again.episode.ordinal == 2


def test_what_a_poll_says_is_never_stale() -> None:
    """A poll tells what is true now, and an end that was only inferred binds nobody."""
    over = _closed(fold(an_episode(), RESOLVED, START + 61).episode)
    polled = an_alert(polled_at=START + 65)
    assert fold(over, polled, START + 65).kind is FoldKind.OPENED
    inferred = replace(over, end_inferred=True)
    assert fold(inferred, an_alert(), START + 65).kind is FoldKind.OPENED


def test_a_resolution_from_before_the_episode_does_not_end_it() -> None:
    """A late resolution of an earlier period leaves the present one alone."""
    second = an_episode(an_alert(starts_at=START + 100))
    assert fold(second, RESOLVED, START + 101).kind is FoldKind.STALE


DELIVERIES = st.lists(
    st.tuples(st.sampled_from(["fire", "resolve"]), st.integers(0, 3)), max_size=30
)


@given(DELIVERIES)
def test_any_order_of_deliveries_keeps_one_active_episode(
    deliveries: list[tuple[str, int]],
) -> None:
    """However deliveries are repeated and reordered, ordinals only grow, one at a time."""
    latest: Episode | None = None
    for at, (what, period) in enumerate(deliveries):
        begin = START + 100.0 * period
        alert = (
            an_alert(starts_at=begin)
            if what == "fire"
            else an_alert(status=AlertStatus.RESOLVED, starts_at=begin, ends_at=begin + 50)
        )
        done = fold(latest, alert, START + 1000 + at)
        if done.kind is FoldKind.OPENED:
            assert done.episode is not None
            assert latest is None or not latest.firing
            assert done.episode.ordinal == (latest.ordinal + 1 if latest else 1)
        latest = done.episode or latest


MATCHERS = [
    ('{alertname="A"}', {"alertname": "A"}, True),
    ('alertname=A, pod=~"web-.*"', {"alertname": "A", "pod": "web-1"}, True),
    ('pod=~"web"', {"pod": "web-1"}, False),
    ('pod!=""', {}, False),
    ('pod=""', {}, True),
    ('ns!~"kube-.*"', {"ns": "kube-system"}, False),
    (r'a="say \"hi\", twice"', {"a": 'say "hi", twice'}, True),
]


@pytest.mark.parametrize(("text", "labels", "expected"), MATCHERS)
def test_matchers_mean_what_alertmanager_means(
    text: str, labels: dict[str, str], expected: bool
) -> None:
    """Matchers match whole values, and a missing label is the empty string."""
    assert matches_all(parse_matchers(text), labels) is expected


@pytest.mark.parametrize("text", ["", "{}", "alertname", 'a="b" c="d"', 'a=~"("', "=x", 'a="'])
def test_bad_matchers_are_refused_with_words(text: str) -> None:
    """Anything but matchers is an error that says what to write; empty never means all."""
    with pytest.raises(ValueError, match=r".+"):
        parse_matchers(text)


def test_the_derived_fingerprint_is_alertmanagers_own() -> None:
    """Fingerprints equal those a real Alertmanager 0.31 computed for the same labels."""
    assert label_fingerprint({}) == "cbf29ce484222325"
    assert label_fingerprint({"alertname": "Watchdog"}) != label_fingerprint({"alertname": "W"})


def test_the_highest_priority_wins_and_a_tie_is_refused() -> None:
    """Of several playbooks the highest priority is chosen, and equals are never guessed."""
    low, high = a_playbook("low", priority=1), a_playbook("high", priority=2)
    chosen = choose([low, high], an_episode())
    assert isinstance(chosen, Selected)
    assert chosen.playbook.name == "high"
    tie = choose([high, replace(high, name="other")], an_episode())
    assert isinstance(tie, NotSelected)
    assert "same priority" in tie.detail


def test_a_trigger_of_its_own_selects_only_its_playbook() -> None:
    """An alert made by a query belongs to that query's playbook alone."""
    own = a_playbook("own", trigger=Trigger(TriggerKind.QUERY, expr="up == 0"))
    episode = an_episode(replace(an_alert(), source="query/own"))
    chosen = choose([a_playbook(), own], episode)
    assert isinstance(chosen, Selected)
    assert chosen.playbook.name == "own"


def test_an_alert_that_fires_again_belongs_to_the_run_under_way() -> None:
    """What a step silenced only for a while comes back to the same episode and its run."""
    running = an_episode(state=EpisodeState.RUNNING)
    silent = fold(running, RESOLVED, START + 61).episode
    back = fold(silent, an_alert(starts_at=START + 70), START + 71)
    assert back.kind is FoldKind.MERGED
    assert back.episode is not None
    assert (back.episode.id, back.episode.firing, back.episode.ends_at) == (running.id, True, None)
