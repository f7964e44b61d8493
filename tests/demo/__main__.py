"""`make demo`: a real cluster, a service that breaks in three ways, and what healer does about it.

Exits with 0 only if each scene truly happened, as read from the journal and from the API server.
Leaves `reports/demo/summary.json` and `summary.txt` with the times.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bed.builds import binary
from tests.bed.choose import choose, running
from tests.bed.cluster import Options
from tests.bed.errors import BedError
from tests.bed.images import app_archive
from tests.bed.waiting import now
from tests.demo.faults import Faults, faults_for
from tests.demo.scenes import NAMESPACE, SCENES, Scene, SceneFailed, deploy
from tests.demo.stack import ROOT, Stack

HERE = Path(__file__).resolve().parent
REPORTS = ROOT / "reports" / "demo"
_QUIET = {"accepted", "evidence"}


class Teller:
    """Prints what the journal says while it happens."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack = stack
        self._console = console
        self._seen: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            try:
                for episode in reversed(self._stack.healer.episodes()):
                    self._tell(episode)
            except OSError:
                continue  # healer is starting or ending; the next look tells

    def _tell(self, episode: dict[str, Any]) -> None:
        if self._seen.get(episode["id"], 0) < 0:
            return
        facts = self._stack.healer.story(episode["id"])["facts"]
        told = abs(self._seen.get(episode["id"], 0))
        for one in facts[told:]:
            fact = one["fact"]
            if fact["kind"] not in _QUIET:
                about = episode["labels"].get("pod") or episode["labels"].get("deployment", "")
                reason = f" [{fact['reason']}]" if fact["reason"] else ""
                text = f"{about}: {fact['kind']}{reason} {fact['detail']}"
                self._console.print(f"    journal  {text[:150]}", style="dim", markup=False)
        done = episode["state"] == "closed"
        self._seen[episode["id"]] = -len(facts) if done else len(facts)

    def stop(self) -> None:
        """Tell no more."""
        self._stop.set()
        self._thread.join(timeout=5)


def main() -> int:
    """Set up, play, judge, sum up."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--keep", action="store_true", help="leave it running, print addresses")
    parser.add_argument("--cluster", default="auto", help="kind of cluster; see tests/bed")
    options = parser.parse_args()
    console = Console(width=160, highlight=False)
    began = now()

    def say(text: str) -> None:
        console.print(f"{now() - began:6.1f} s  {text}", markup=False)

    try:
        return play(options, console, say, began)
    except (BedError, SceneFailed) as error:
        console.print(f"demo failed: {error}", style="bold red", markup=False)
        return 1


def play(options: argparse.Namespace, console: Console, say: Any, began: float) -> int:
    """The whole evening."""
    found = running()
    if found is not None:
        cluster, reason = found, "it is up already"
    else:
        choice = choose(options.cluster, Options(nodes=3), detached=options.keep)
        cluster, reason = choice.cluster, choice.reason
    say(f"a {cluster.kind} cluster: {reason}")
    if not cluster.real_nodes:
        say("simulated nodes: the control plane is real, pods only have the status we give them")
    if found is None:
        cluster.prepare()
        for program in ("prometheus", "alertmanager"):
            binary(program)
        cluster.start()
        if cluster.kind == "kind":
            cluster.import_image(app_archive())
    say(f"cluster ready: {', '.join(cluster.nodes)}")
    folder = REPORTS / "run"
    shutil.rmtree(folder, ignore_errors=True)
    stack = Stack(
        cluster, folder, playbooks=[HERE / "playbooks"],
        rules=[HERE / ("rules.yml" if cluster.real_nodes else "rules-simulated.yml")],
        settings={"worker": {"hold_page_seconds": 8}},
    )  # fmt: skip
    keep = False
    faults = faults_for(cluster, NAMESPACE)
    try:
        deploy(cluster)
        say("a small shop: web, api and cart, six pods each, over three zones")
        stack.start()
        say("Prometheus, Alertmanager and healer are ready")
        code = scenes(stack, faults, console, say, began)
        keep = options.keep and code == 0
        if keep:
            addresses(stack, console)
        return code
    finally:
        faults.stop()
        if not keep:
            stack.stop()
            cluster.kubectl("delete", "namespace", "demo", "--ignore-not-found", "--wait=false")
            if found is None:
                cluster.stop()


def scenes(stack: Stack, faults: Faults, console: Console, say: Any, began: float) -> int:
    """Play the scenes in order; the first that did not happen ends the evening."""
    played: list[Scene] = []
    teller = Teller(stack, console)
    try:
        for number, scene in enumerate(SCENES, 1):
            console.rule(f"scene {number}: {scene.__doc__}")
            start = now()
            done = scene(stack, faults, say)
            done.seconds = now() - start
            played.append(done)
            for line in done.seen:
                say(f"seen: {line}")
    finally:
        teller.stop()
    report(played, console, now() - began)
    return 0


def report(played: list[Scene], console: Console, seconds: float) -> None:
    """The summary, on the screen and in reports/demo/."""
    table = Table(title="What happened (seconds after the fault)")
    for name in ("target", "alert", "accepted", "intent", "effect", "recovered", "steps"):
        numeric = name not in {"target", "steps"}
        table.add_column(name, justify="right" if numeric else "left")
    for scene in played:
        table.add_section()
        for t in scene.times:
            values = (t.alert, t.accepted, t.intent, t.effect, t.recovered)
            table.add_row(t.what, *(f"{at - t.fault:.1f}" for at in values), t.steps)
    console.print(table)
    line = f"{len(played)} scenes happened, as journal and API server agree; {seconds:.0f} s"
    console.print(line, style="bold green")
    REPORTS.mkdir(parents=True, exist_ok=True)
    content = {"seconds": seconds, "scenes": [asdict(scene) for scene in played]}
    (REPORTS / "summary.json").write_text(json.dumps(content, indent=2) + "\n")
    with (REPORTS / "summary.txt").open("w") as file:
        Console(file=file, width=140).print(table, line)
    console.print(f"summary: {(REPORTS / 'summary.txt').relative_to(ROOT)}")


def addresses(stack: Stack, console: Console) -> None:
    """How to look at what was left running."""
    console.print(f"Prometheus    {stack.prometheus.url}")
    console.print(f"Alertmanager  {stack.alertmanager.url}")
    console.print(f"healer API    {stack.healer.url}")
    console.print(f"export HEALER_SERVER={stack.healer.url} HEALER_TOKEN_FILE={stack.token_file}")
    console.print(f"export KUBECONFIG={stack.cluster.kubeconfig}")
    console.print(".venv/bin/healer episodes; make cluster-down ends it all")


if __name__ == "__main__":
    sys.exit(main())
