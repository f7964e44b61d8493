"""`python -m tests.faults COMMAND …`: what is too long for `make test`, and the fault matrix."""

import importlib
import sys

#: command → module with a `main(arguments)` that returns the exit code
COMMANDS = {
    "flood": "tests.faults.flood",
    "soak": "tests.faults.soak",
    "table": "tests.faults.table",
}


def main() -> int:
    """Run the named command with the rest of the arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: python -m tests.faults {' | '.join(COMMANDS)} [--help]", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[sys.argv[1]])
    return int(module.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
