"""The same work on lograft and on others of its kind, in turn, on this machine: `make bench-peers`."""
