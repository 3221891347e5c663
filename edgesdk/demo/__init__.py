"""The demo: the whole line on one machine, driven only through commands and processes."""
