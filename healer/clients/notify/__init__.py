"""Ways to reach a person, one file each; every message carries its own deduplication key."""
