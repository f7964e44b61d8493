"""`healer scaling` reads a load, says what a forecast would have done, and names what is wrong."""

import builtins
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from healer.cli import cli
from healer.clients.prometheus_history import PIECE_POINTS, read_history
from healer.errors import Refused, Unreachable
from tests.bed.ports import free_port
from tests.scalers.loads import a_load

STEP = 300


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Three days and a half of a daily wave."""
    values = a_load(4, 1, noise=0.01, weekly=False)[:1000].tolist()
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(["time,value", *(f"{STEP * i},{v}" for i, v in enumerate(values))]))
    return path


def typed(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["scaling", *map(str, words)])


def test_simulate_recommends_and_draws(csv: Path, tmp_path: Path) -> None:
    """The table names plain HPA and the point to take; PNG and a page that loads nothing follow."""
    png, html = tmp_path / "a.png", tmp_path / "a.html"
    done = typed("simulate", csv, "--replay-days", "0.4", "--capacity", "5", "--ready", "10m",
                 "--price", "0.5", "--png", png, "--html", html)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "<- plain HPA" in done.output
    assert "COST" in done.output
    assert png.read_bytes().startswith(b"\x89PNG")
    page = html.read_text()
    assert "<svg" in page
    assert "pod-hours" in page
    assert 'src="' not in page
    assert 'href="http' not in page


def test_simulate_for_programs(csv: Path) -> None:
    """JSON holds every point, the baseline, and a recommendation that takes no more pod-hours."""
    done = typed("simulate", csv, "--replay-days", "0.3", "-o", "json")
    value = json.loads(done.output)
    assert len(value["points"]) == 11 * 11
    assert value["baseline"]["policy"] == "reactive"
    if value["recommended"] is not None:
        assert value["recommended"]["pod_hours"] <= value["baseline"]["pod_hours"]


def test_forecast_tells_coverage_and_draws(csv: Path, tmp_path: Path) -> None:
    """Quantiles ahead, how often they held, who made them; and a picture."""
    png = tmp_path / "f.png"
    done = typed("forecast", csv, "--hours", "2", "--judge-days", "0.3", "--png", png)
    assert "Rung: day (" in done.output
    assert done.exit_code == 0, done.output
    assert "q90 held" in done.output
    assert "Made by" in done.output
    assert png.read_bytes().startswith(b"\x89PNG")
    value = json.loads(
        typed("forecast", csv, "--hours", "1", "--judge-days", "0.1", "-o", "json").output
    )
    assert len(value["quantiles"]["0.9"]) == 12
    assert set(value["coverage"]) == {"0.5", "0.8", "0.9", "0.95"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a CSV file, or --prometheus URL and --query"),
        (["nowhere.csv"], "nowhere.csv: cannot be read"),
        (["CSV", "--query", "up"], "exclude each other"),
        (["CSV", "--replay-days", "3"], "give more, or replay fewer days"),
        (["CSV", "--replay-days", "0"], "give more than none"),
        (["CSV", "--replay-days", "0.2", "--capacity", "0"], "must be above zero"),
        (["CSV", "--replay-days", "0.2", "--min", "9", "--max", "3"], "must be in order"),
        (["CSV", "--replay-days", "0.2", "--target", "0"], "must be above zero"),
        (["CSV", "--ready", "five"], "not a duration"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(csv: Path, words: list[str], said: str) -> None:
    """Wrong usage ends with exit code 2 and one line that says what to do."""
    done = typed("simulate", *(str(csv) if word == "CSV" else word for word in words))
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "Traceback" not in done.output


def test_without_matplotlib_it_says_how_to_get_it(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that cannot be drawn is refused with the name of the extra."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    done = typed("forecast", csv, "--hours", "1", "--judge-days", "0.1", "--png", tmp_path / "x")
    assert done.exit_code == 2
    assert "healer[pictures]" in done.output


class _Prometheus(BaseHTTPRequestHandler):
    """Answers query_range with the time as value; other queries as their name says."""

    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        ask = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.asked.append(ask)
        if ask["query"] == "wrong(":
            self._answer(400, {"status": "error", "error": "parse error at char 7"})
            return
        times = range(int(ask["start"]), int(ask["end"]) + 1, int(ask["step"]))
        one = {"metric": {}, "values": [[t, "NaN" if t % 7 == 0 else str(t)] for t in times]}
        several = ask["query"] == "several"
        found = [one, one | {"metric": {"pod": "b"}}] if several else [one]
        self._answer(200, {"status": "success", "data": {"result": found}})

    def _answer(self, code: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    """A server that answers as Prometheus does."""
    _Prometheus.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_history_is_read_in_pieces(prometheus: str) -> None:
    """No piece asks for more points than Prometheus gives, none is asked twice, NaN is left out."""
    end = 60.0 * (PIECE_POINTS + 499)
    shares: list[float] = []
    samples = read_history(prometheus, "up", 0.0, end, told=shares.append)
    assert len(_Prometheus.asked) == 2
    assert shares == [0.5, 1.0]
    times = [at for at, _ in samples]
    assert times == [60.0 * i for i in range(PIECE_POINTS + 500) if 60 * i % 7]


def test_history_that_cannot_be_had_says_why(prometheus: str) -> None:
    """Several series, a wrong query and a dead address are told apart, each with a remedy."""
    with pytest.raises(Refused, match=r"gives 2 series.*sum\(several\)"):
        read_history(prometheus, "several", 0.0, 600.0)
    with pytest.raises(Refused, match=r"parse error at char 7.*check --query"):
        read_history(prometheus, "wrong(", 0.0, 600.0)
    with pytest.raises(Unreachable, match="is this the address"):
        read_history(f"http://127.0.0.1:{free_port()}", "up", 0.0, 600.0)
