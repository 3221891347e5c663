"""The edgesdk device agent: pulls signed model updates and tries each before it believes it."""
