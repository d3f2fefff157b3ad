"""What the origin knows: feeds, snapshots, releases. One small interface; this room alone knows a database."""
