"""Run ``python -m mobile_vla``."""

from mobile_vla.cli import main

main()
