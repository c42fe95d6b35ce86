"""`python -m gateway.cli` is `exchange`."""

from gateway.cli import main

main()
