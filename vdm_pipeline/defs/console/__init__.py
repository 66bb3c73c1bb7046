"""What a run shows in the terminal: its assets, checks and failures, instead of Dagster's events."""
