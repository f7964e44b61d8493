"""The simulator: the real engine under virtual time, seeded chance, and every kind of trouble."""

from healer.testing.simulation.play import Played, play
from healer.testing.simulation.scenario import Scenario, draw

__all__ = ["Played", "Scenario", "draw", "play"]
