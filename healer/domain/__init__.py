"""What healer knows and decides: frozen values and pure functions.

No await, no clock, no log, no I/O and no framework in here; import-linter holds it. Times are Unix
seconds (float, UTC) and always arguments. The same input gives the same answer on every replica.
"""
