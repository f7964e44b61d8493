"""What is raised by a scene that does not truly happen."""


class SceneFailed(Exception):
    """A scene did not truly happen; the text says what was missing."""
