"""What an endpoint does with a verified bundle: tries it, hands it to each engine, and proves what the engine runs."""
