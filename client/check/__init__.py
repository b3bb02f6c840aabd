"""What shows whether a log kept its word: `lograft check`."""
