"""Actions for the Chaos Toolkit: each breaks one thing, and only where that is allowed."""
