"""The crash explorer: every durable call of the agent, made to fail in every way; see README.md."""
