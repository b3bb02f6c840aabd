"""The command line: `lograft up`, `topic`, `produce`, `consume` and what belongs to them."""
