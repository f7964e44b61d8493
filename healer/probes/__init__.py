"""One file per observation that can prove recovery, each answering recovered, not, or unknown."""
