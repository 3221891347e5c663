"""Hardware profiles and matching."""
