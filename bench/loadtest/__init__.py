"""One day's load on two services that differ only in whether predictions are served."""
