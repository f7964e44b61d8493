"""The async shell around the domain: hears, decides, acts, verifies, tells. Over ports only."""
