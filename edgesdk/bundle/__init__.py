"""The bundle: one variant of a release packed as one file."""
