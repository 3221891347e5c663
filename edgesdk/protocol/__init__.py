"""Topics, messages and the link of protocol version 1."""
