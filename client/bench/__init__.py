"""`lograft bench`: load on a running cluster, and what came of it. Pure parts, worker processes, and who leads them."""
