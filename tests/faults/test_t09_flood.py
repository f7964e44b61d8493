"""T9: ten thousand alerts at once, in one group and in many, from three Alertmanagers each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.flood import flood, problems

ALERTS = 10_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("many", [False, True], ids=["one-group", "many-groups"])
async def test_t9_a_flood_is_taken_whole(
    *, many: bool, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Nothing acknowledged is lost, only 503 refuses, memory is bounded, and all is decided."""
    figures = await flood(tmp_path, ALERTS, many=many)
    record_property("fault", f"T9 {ALERTS} alerts in {figures['groups']} groups from 3 senders")
    record_property(
        "worst",
        f"accepted in {figures['accepted_seconds']} s, matched in {figures['matched_seconds']} s, "
        f"{figures['rss_mebibytes']} MiB, loop {figures['worst_lag_ms']} ms late, "
        f"refusal {figures['slowest_refusal_ms']} ms",
    )
    assert problems(figures) == []
    assert figures["acknowledged_lost"] == 0
    assert figures["rss_mebibytes"] < 512
