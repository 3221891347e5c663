"""`python -m edgesdk_agent` is the command `edge-agent`."""

from edgesdk_agent.cli import main

main()
