"""Run one training job, or a sweep of them with -m, from the configs in conf/."""

import sys

from mobile_vla.process.interruption import begin, quiet


def main() -> None:
    """Run ``mobile-vla train`` with the same arguments."""
    begin()  # before the slow imports, so that a signal during them ends the process without a traceback
    with quiet():
        from mobile_vla.commands.cli import train

        train(sys.argv[1:])


if __name__ == "__main__":  # a worker process of a parallel sweep imports this file under another name
    main()
