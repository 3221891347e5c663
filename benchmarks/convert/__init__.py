"""Conversions of real models, beside the defaults of other tools. Run it: ``python benchmarks/convert``."""
