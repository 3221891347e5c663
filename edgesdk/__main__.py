"""`python -m edgesdk` is the command `edge`."""

from edgesdk.cli.main import main

main()
