"""Short-lived children of the agent: `trust` verifies and signs, `testing` judges a newcomer."""
