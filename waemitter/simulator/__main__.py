"""`python -m waemitter.simulator`: a Cloud API on localhost."""

import sys

from waemitter.simulator.flags import options_of, parser
from waemitter.simulator.runner import run


def main(arguments: list[str] | None = None) -> int:
    """Parse flags and serve; 2 for wrong ones, 1 when the address is taken."""
    flags = parser()
    try:
        options = options_of(vars(flags.parse_args(arguments)))
    except ValueError as error:
        flags.error(str(error))
    try:
        return run(options)
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)  # noqa: T201 - the one line of a failure
        return 1


if __name__ == "__main__":
    sys.exit(main())
