"""Random and structure-aware mutation of everything that parses what others wrote."""
