"""What feeds hold: one module or package per format, each with its own grammar."""
