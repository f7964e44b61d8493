"""What every ring shares: the test bed's fixtures and the detector of a blocked event loop."""

pytest_plugins = ["tests.bed.fixtures", "tests.stall"]
