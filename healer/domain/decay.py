"""How long an alert may go on firing after what caused it was mended.

`rate(x[15m]) > 0` stays true for fifteen minutes after the last error. Whoever looks earlier sees a
failed fix that was none; whoever looks much later pages late.
"""

from dataclasses import dataclass

from healer.domain.promql import lookback
from healer.kernel.durations import format_duration

#: Nothing is verified in less: scraping, evaluating and asking take their time.
MIN_SECONDS = 60.0
#: Nothing is waited for longer: by then a person should look.
MAX_SECONDS = 7200.0
#: Taken for a rule that is unknown or unreadable: the longest window common in public mixins.
UNKNOWN_LOOKBACK = 900.0


@dataclass(frozen=True, slots=True)
class VerificationWindow:
    """By when a mended alert must have stopped, and why then."""

    seconds: float  #: from the moment the fix took effect
    explanation: str  #: the sum as a person would write it
    relapse_seconds: float  #: a relapse under other labels shows only this long after it began


def verification_window(
    expr: str | None,
    keep_firing_for_seconds: float = 0.0,
    interval_seconds: float = 60.0,
    *,
    for_seconds: float = 0.0,
    scrape_seconds: float = 60.0,
    settle_seconds: float = 30.0,
) -> VerificationWindow:
    """The window for an alerting rule; `expr` None means that the rule is not known.

    It is scrape + lookback + evaluation + `keep_firing_for` + settle, within 60 s and 2 h. `for`
    is not in it: it delays the start of an alert, never its end; it says how late a relapse would
    show. Alertmanager's intervals are not in it either, because Prometheus itself is asked.
    """
    looks, because = UNKNOWN_LOOKBACK, "the rule is not known, so a usual window is assumed"
    if expr is not None:
        try:
            found = lookback(expr)
        except ValueError as error:
            because = f"the expression was not understood ({error}), so a usual window is assumed"
        else:
            looks = found.seconds
            because = found.because or "the expression looks at the present only"
    parts = [
        (scrape_seconds, "scrape"),
        (looks, f"lookback: {because}"),
        (interval_seconds, "evaluation"),
    ]
    if keep_firing_for_seconds > 0:
        # It ends at an evaluation, so up to one more interval passes.
        parts.append((keep_firing_for_seconds + interval_seconds, "keep_firing_for"))
    parts.append((settle_seconds, "settle"))
    total = sum(seconds for seconds, _ in parts)
    bounded = min(max(total, MIN_SECONDS), MAX_SECONDS)
    explanation = " + ".join(f"{format_duration(seconds)} ({name})" for seconds, name in parts)
    if bounded != total:
        word = "at least" if bounded > total else "at most"
        explanation += f" = {format_duration(total)}, {word} {format_duration(bounded)}"
    return VerificationWindow(bounded, explanation, for_seconds + scrape_seconds + interval_seconds)
