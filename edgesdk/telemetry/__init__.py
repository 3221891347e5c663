"""Sketches and the subscriber."""
