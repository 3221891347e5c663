"""What the agent measures and sends: probes, the durable outbox, the publisher."""
