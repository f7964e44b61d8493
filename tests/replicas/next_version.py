"""healer as its next version would be: one more migration, which only adds; else the same code.

python -m tests.replicas.next_version serve --config FILE
"""

from healer.cli import main
from healer.store.postgres import schema

_SCRIPT = """
CREATE TABLE next_version_note (id bigint PRIMARY KEY, note text NOT NULL);
ALTER TABLE episode ADD COLUMN next_version_hint text;
"""
_known = schema.migrations()
schema.migrations = lambda: [*_known, (len(_known) + 1, _SCRIPT)]

if __name__ == "__main__":
    main()
