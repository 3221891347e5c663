"""Compression of Keras models before they are converted: pruning, shrinking, fine-tuning, distillation."""
