"""Documents that promise something, held against what they promise."""
