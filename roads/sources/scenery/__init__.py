"""Synthetic places and their aerial images, for the `sample` source."""
