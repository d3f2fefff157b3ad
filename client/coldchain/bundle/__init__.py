"""Bundles: their description, their sections, and the deltas that make one from another."""
