"""What endpoints report of their updates: received, counted, forwarded, judged."""
