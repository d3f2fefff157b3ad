"""The witness: cosigns a log's checkpoints as long as each continues the one before. Runs beside any log, without the origin."""
