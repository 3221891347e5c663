"""One way to run an artifact: backends behind one seam."""
