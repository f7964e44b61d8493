"""Weekly windows in UTC: whether a moment lies in one, and when it ends."""

from healer.domain.playbook import Window

_DAY_MINUTES = 1440


def in_window(window: Window, at: float) -> bool:
    """Whether `at` (Unix seconds) lies in the weekly window, read in UTC."""
    minute_of_week = int(at // 60 + 3 * _DAY_MINUTES) % (7 * _DAY_MINUTES)  # 1970-01-01: Thursday
    day, minute = divmod(minute_of_week, _DAY_MINUTES)
    if window.start_minute < window.end_minute:
        return day in window.days and window.start_minute <= minute < window.end_minute
    if minute >= window.start_minute:
        return day in window.days
    return minute < window.end_minute and (day - 1) % 7 in window.days


def window_end(window: Window, at: float) -> float:
    """When the window that contains `at` ends, Unix seconds."""
    minute = int(at // 60) % _DAY_MINUTES
    left = (window.end_minute - minute) % _DAY_MINUTES or _DAY_MINUTES
    return (at // 60 + left) * 60.0
