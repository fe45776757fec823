"""`python -m keys.cli` is `tocsin-keys`."""

from keys.cli import main

main()
