"""One check of one history: every promise is asked, and the report names each that was broken."""

from itertools import chain as joined

from healer.domain.outcome import Outcome
from healer.testing.history import inside, outside
from healer.testing.history.records import History, Report


def check(history: History) -> Report:
    """Judge `history`. What a witness cannot say (None) is not judged.

    While faults still happen (`calm` is false) nothing is asked of what is under way.
    """
    attributed = outside.attribute(history)
    violations = tuple(
        joined(
            inside.chain(history),
            inside.intents(history),
            inside.epochs(history),
            inside.budgets(history),
            inside.overlaps(history),
            inside.rest(history),
            outside.lost(history),
            outside.unintended(history, attributed),
            outside.repeated(history, attributed),
            outside.quiet(history, attributed),
        )
    )
    records = [record for run in history.runs for record in run.steps]
    return Report(
        violations=violations,
        facts=len(history.facts),
        runs=len(history.runs),
        effects=sum(1 for effect in history.effects if effect.happened),
        accepted=len({sent.event_id for sent in history.sent if sent.accepted}),
        effects_per_step=max(outside.counts(history, attributed).values(), default=0),
        unknown_outcomes=sum(1 for record in records if record.outcome is Outcome.UNKNOWN),
    )
