"""Runs one experiment by the real `chaos run`, in a process of its own, and reads its journal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from chaos.catalogue import Experiment
from chaos.clock import now, until
from chaos.course import Course, read
from chaos.errors import ChaosError
from chaos.kube import Kube
from chaos.play import VARIABLE, current, write_play
from chaos.probes.watching import steady
from chaos.site import Site
from chaos.victim import deploy, remove

ROOT = Path(__file__).resolve().parent.parent
#: The steady state is asked so often. Seconds.
EVERY_SECONDS = 0.5
#: Beyond the limits of its claim, one run may take this long for hooks and rollbacks. Seconds.
SPARE_SECONDS = 240.0


class Bout:
    """One run of one experiment, with its own victim: prepared, run, cleared away."""

    def __init__(
        self, experiment: Experiment, site: Site, folder: Path, tag: str, *, control: bool
    ) -> None:
        self.experiment, self.site, self.control = experiment, site, control
        self.folder = folder / experiment.name / ("control" if control else "healing")
        # Deployment names end up in pod names and labels, which have limits.
        word = re.sub(r"[^a-z0-9-]", "-", experiment.name)[:24]
        self.victim = f"{word}-{tag}{'-c' if control else ''}"
        self.kube = Kube(site.kubeconfig, site.context)

    def prepare(self) -> None:
        """Deploy the victim and wait until the steady state holds, as its own probes see it."""
        claim = self.experiment.claim
        deploy(self.kube, self.site, self.victim, claim.replicas, one_zone=claim.one_zone)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = self.experiment.content
        (self.folder / "experiment.json").write_text(json.dumps(content, indent=1))
        write_play(self._play, {
            "experiment": self.experiment.name,
            "victim": self.victim,
            "control": self.control,
            "site": self.site.model_dump(mode="json"),
            "claim": claim.model_dump(mode="json"),
            "hypothesis": content["steady-state-hypothesis"]["probes"],
        })  # fmt: skip
        known = {"play": str(self._play)}
        title = content["steady-state-hypothesis"]["title"]
        until(lambda: steady(current(known), known), f"before the fault: {title}", timeout=60)

    def run(self) -> Course:
        """Run it; a run that cannot be read is a course that says why."""
        journal = self.folder / "journal.json"
        journal.unlink(missing_ok=True)
        said = self._toolkit(self.folder / "experiment.json", journal)
        if not journal.exists():
            return Course(broken=f"chaos run wrote no journal: {said[-300:]}")
        found: dict[str, Any] = json.loads(journal.read_text())
        return read(found)

    @property
    def _play(self) -> Path:
        return self.folder / "play.json"

    def clear(self) -> None:
        """Delete the victim."""
        self._play.unlink(missing_ok=True)
        remove(self.kube, self.site, self.victim)

    def _toolkit(self, source: Path, journal: Path) -> str:
        command = [
            sys.executable, "-m", "chaostoolkit", "--no-version-check",
            "--settings", str(self.folder / "settings.yaml"),
            "--log-file", str(self.folder / "chaostoolkit.log"),
            "run", "--hypothesis-strategy", "continuously",
            "--hypothesis-frequency", str(EVERY_SECONDS), "--rollback-strategy", "always",
            "--journal-path", str(journal), str(source),
        ]  # fmt: skip
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            VARIABLE: str(self._play),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        within = self.experiment.claim.within
        limit = within.detect + within.heal + within.stable + SPARE_SECONDS
        output = self.folder / "output.txt"
        with output.open("w") as said:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command, cwd=self.folder, env=environment, stdout=said, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                # Its exit code says how the steady state was at the end; the journal says more.
                process.wait(limit)
            except subprocess.TimeoutExpired:
                _end(process)
                raise ChaosError(
                    f"{self.experiment.name}: chaos run took more than {limit:.0f} s; {output}"
                ) from None
            except BaseException:
                _end(process)
                raise
        return output.read_text()


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM lets the toolkit play its rollbacks; only then SIGKILL."""
    process.terminate()
    try:
        process.wait(90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tag() -> str:
    """A short word that no earlier run used."""
    return f"{int(now()) & 0xFFFF:04x}"
