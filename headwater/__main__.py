"""The command's first line: `python -m headwater`, and an interrupt that comes before anything is loaded."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it loads is one line and exit code 1, as one later is."""
    try:
        from headwater.cli.main import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        print("error: stopped by the user; what was finished is kept", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
