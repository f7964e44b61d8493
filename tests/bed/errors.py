"""What the test bed says when it cannot go on: one sentence, and the remedy in it."""


class BedError(Exception):
    """The test bed cannot do what was asked; the message names what to do about it."""


class UnsupportedError(BedError):
    """This kind of cluster can never do what was asked; another kind can."""


class UnavailableError(BedError):
    """This machine lacks something a kind of cluster needs; tests skip with this reason."""
