"""The `healer` command."""
