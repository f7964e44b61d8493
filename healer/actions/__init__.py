"""One file per verb: its parameters, the rights it needs, how to do, look up and undo it.

An action touches the world only through the ports in its `ActionContext`, does one thing, and is
either idempotent (the identical request twice has one effect) or probeable (it can tell whether it
was done). None guards, verifies, retries or journals: the engine does, in one place for all.
"""
