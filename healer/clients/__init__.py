"""The network. Every call has a timeout and leaves as a domain value or one of our own errors."""
