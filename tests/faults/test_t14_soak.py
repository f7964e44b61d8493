"""T14: a minute's load in seconds; `python -m tests.faults soak` is the long one."""

from collections.abc import Callable
from pathlib import Path

from tests.faults.soak import Look, slope, soak


async def test_t14_a_short_soak_leaks_no_files_and_takes_nearly_all(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Under ten alerts a second no file stays open, the log is bounded, and few are refused.

    A refusal is a disk that took 80 ms, which a busy machine's does now and then.
    """
    figures = await soak(tmp_path, 9.0, rate=10.0)
    record_property("fault", "T14 short soak")
    record_property(
        "worst",
        f"{figures['alerts']} alerts, {figures['rss_mebibytes_end']} MiB, "
        f"{figures['fds_grown']:+d} files, log {figures['wal_mebibytes_worst']} MiB",
    )
    assert figures["refused"] <= figures["alerts"] / 10
    assert figures["fds_grown"] <= 8
    assert figures["wal_mebibytes_worst"] < 64
    assert figures["exit_code"] == 0


def test_t14_a_leak_would_be_seen() -> None:
    """A process that grows by 10 KiB a second has a slope of 600 KiB a minute."""
    looks = [Look(float(at), 100_000 + 10 * at, 10, 0) for at in range(60)]
    assert abs(slope(looks) - 600) < 1e-6
