"""Every setting of the daemon: one YAML file, each key also an environment variable.

`listen.api.port` is `HEALER_LISTEN__API__PORT` in the environment, which wins over the file. Values
there are YAML, so lists are written `[a, b]`. Secrets are never settings: settings name the files
they are in. `docs/configuration.md` is generated from this file and held true by a test.
"""

from healer.settings.loading import PREFIX, load
from healer.settings.root import Settings

__all__ = ["PREFIX", "Settings", "load"]
