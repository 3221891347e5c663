"""Models with one planted fault each, and the device that they are deployed to."""
