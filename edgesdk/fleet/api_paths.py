"""Where the hub's API lies; apart, so that its client imports no server."""

PREFIX = "/api/v1"
