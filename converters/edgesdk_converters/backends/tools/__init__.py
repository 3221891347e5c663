"""Scripts that a vendor's own Python runs; they import nothing of ours but each other."""
