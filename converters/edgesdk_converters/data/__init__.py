"""Data sets: read from what people have, checked against a contract, and streamed."""
