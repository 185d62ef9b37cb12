"""The command line: `python -m refine --help` (also installed as `refine`).

Exit codes: 0 done, 1 a fault, 2 a user's error (one sentence on stderr), 130 interrupted.
"""

import sys
import traceback

from refine import cli, faults, paths


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    try:
        return cli.run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has read enough
        sys.stderr.close()
        return 0
    except Exception as error:
        sentence = faults.sentence(error, paths.runs())
        if sentence is None:
            traceback.print_exc()
            return 1
        print(" ".join(sentence.split()), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
