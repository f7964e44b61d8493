"""A real Prometheus whose samples are all in the past, so that a test's clock may move in them."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.loadtest.past import fill
from tests.bed.builds import binary
from tests.bed.ports import free_port
from tests.bed.processes import launch
from tests.bed.waiting import today, until


@contextmanager
def past(folder: Path, lines: Iterator[str]) -> Iterator[str]:
    """Serve these OpenMetrics lines, in order of time, at the URL that is given."""
    fill(folder / "data", lines)
    (folder / "prometheus.yml").write_text("{}\n")
    url = f"http://127.0.0.1:{free_port()}"
    process = launch(
        "prometheus",
        [
            str(binary("prometheus")), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", "--storage.tsdb.retention.time=90d",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
        log=folder / "log",
    )  # fmt: skip

    def ready() -> bool:
        assert process.alive(), process.tail()
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2):
                return True
        except urllib.error.URLError:
            return False

    try:
        until(ready, "Prometheus to be ready", timeout=60)
        yield url
    finally:
        process.stop()


def midnight() -> float:
    """The last midnight but one (UTC): the past ends there. Unix seconds."""
    return today() // 86400 * 86400 - 86400
