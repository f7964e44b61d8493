"""What every ring shares: the test bed's fixtures and the detector of a blocked event loop."""

import asyncio

import hypothesis

pytest_plugins = ["tests.bed.fixtures", "tests.stall"]


def pytest_configure() -> None:
    """Keep the first test's event loop from being a stray one.

    pytest-asyncio asks for the current loop before it sets its own; unless told that there is none,
    Python before 3.14 makes one then, which nobody closes: a ResourceWarning in some later test.
    """
    asyncio.set_event_loop(None)
    # How long an example takes says more of the machine than of the code; hangs end by timeout.
    hypothesis.settings.register_profile("healer", deadline=None)
    hypothesis.settings.load_profile("healer")
