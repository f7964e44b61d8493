"""What can go wrong around an experiment, in words that name the remedy."""


class ChaosError(Exception):
    """An experiment could not be carried out; the text says why and what to do."""


class Refused(ChaosError):
    """Nobody allowed experiments there, so nothing was done."""


class NotPossible(ChaosError):
    """This site lacks what the experiment needs: it is reported as not run, with this reason."""
