"""Clock, ids, durations, quantities, secrets, crash points: no word of our domain.

Standard library only.

Nothing here imports anything of ours, so both `healer` and `scalers` may stand on it.
"""
