"""Target lint: which operators of a model will not run on an accelerator, the constraint they break, the rewrite.

`read_graph` reads a file, `check` applies a target's rules; neither imports TensorFlow or runs anything.
"""
