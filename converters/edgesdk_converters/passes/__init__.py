"""What is done to a model between its source and its artifact."""
