"""`python -m p2ch_luna` is the command `luna`."""

from p2ch_luna.cli import main

main()
