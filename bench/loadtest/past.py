"""Days that are over, put into Prometheus's folder before it starts."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bed.builds import binary

COUNTER = "ingress_requests"
STEP_SECONDS = 30


def openmetrics(
    services: Sequence[str], rate: Callable[[float], float], start: float, end: float
) -> Iterator[str]:
    """The counter of each service, as an ingress would have shown it; lines in order of time."""
    yield f"# TYPE {COUNTER} counter\n"
    for service in services:
        total = 0.0
        for at in range(int(start), int(end), STEP_SECONDS):
            total += STEP_SECONDS * rate(at)
            yield f'{COUNTER}_total{{service="{service}"}} {total:.3f} {at}\n'
    yield "# EOF\n"


def fill(folder: Path, lines: Iterator[str]) -> None:
    """Make blocks of them in `folder`, the data folder of a Prometheus that does not run yet."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder.parent / "past.om"
    with text.open("w") as file:
        file.writelines(lines)
    command = [str(binary("promtool")), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    done = subprocess.run(
        [*command, str(text), str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"promtool took no past from {text}: {done.stderr[-500:]}")
    text.unlink()
