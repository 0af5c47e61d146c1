"""Run ``python -m mobile_vla``, or ``mobile-vla`` where it is installed."""

from mobile_vla.process.interruption import begin, quiet


def main() -> None:
    """Run the command line; a signal ends it with one line, also while it is still importing."""
    begin()
    with quiet():
        from mobile_vla.commands.cli import main as run

        run()


if __name__ == "__main__":
    main()
