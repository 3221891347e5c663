"""From what was asked to the steps that make it. Pure: nothing is read or run, no runtime and no framework imported."""
