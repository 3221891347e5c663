"""The command `edge`; each module here is one command."""
