"""`edge contract`: a first contract from a model and data, and whether a contract fits a model."""
