"""What a run leaves to read: the report, its tables and its pictures."""
