"""How steps run: each in a child process, its result kept by what it was made of; vendors' tools apart."""
