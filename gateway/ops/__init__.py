"""What operators see: logs, metrics, records."""
