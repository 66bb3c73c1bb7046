"""What the figures say, in plain sentences; also when it did not work, and when it was not measured."""
