"""From two bundles to a delta: what changed, how changes compose, and how they are written."""
