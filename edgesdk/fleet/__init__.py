"""The hub: registry, rollouts, HTTP API."""
