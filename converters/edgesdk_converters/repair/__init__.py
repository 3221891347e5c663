"""The repair ladder: gentler recipes, one after another, until the gate passes."""
