"""Run ``python -m mobile_vla``."""

from mobile_vla.interruption import begin, quiet

begin()
with quiet():
    from mobile_vla.cli import main

    main()
