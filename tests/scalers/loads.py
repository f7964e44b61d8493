"""Loads made for tests and benchmarks: days and weeks with noise, drift and bursts, by seed."""

import numpy as np

from scalers.series import Floats, Series

DAY = 288


def a_load(days: int, seed: int = 0, *, noise: float = 0.05, weekly: bool = True) -> Floats:
    """A service's load each five minutes: a daily wave, quiet weekends, and correlated noise."""
    dice = np.random.default_rng(seed)
    at = np.arange(days * DAY)
    wave = 1.0 + 0.6 * np.sin(2 * np.pi * at / DAY - 1.5) + 0.2 * np.sin(4 * np.pi * at / DAY)
    if weekly:
        wave *= np.where((at // DAY) % 7 >= 5, 0.6, 1.0)
    rough = np.zeros(len(at))
    pushes = dice.normal(0.0, noise, len(at))
    for index in range(1, len(at)):
        rough[index] = 0.9 * rough[index - 1] + pushes[index]
    bursts = np.where(dice.random(len(at)) < 0.001, dice.uniform(0.3, 1.0, len(at)), 0.0)
    return np.maximum(100.0 * (wave * (1.0 + 0.3 * rough) + bursts), 0.0)


def as_series(values: Floats) -> Series:
    """The values as a series that teaches everywhere."""
    return Series(0.0, values, np.ones(len(values), dtype=bool))
