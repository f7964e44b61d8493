"""The scenes of `healer demo`: the real engine over a model of a cluster, in virtual time."""

from pathlib import Path

from healer.testing.demo.scenes import SCENES, Played, Scene, play
from healer.testing.demo.town import Row

#: The demo's own playbooks.
PLAYBOOKS = Path(__file__).parent / "playbooks"

__all__ = ["PLAYBOOKS", "SCENES", "Played", "Row", "Scene", "play"]
