"""Is the artifact as good as its source? Metrics, the paired gate, and what saturating CPUs would make of it."""
