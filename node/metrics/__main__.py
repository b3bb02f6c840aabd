"""`python -m lograft.node.metrics`: writes docs/metrics.md to standard output (`make metrics-doc` puts it in place)."""

from .reference import reference

if __name__ == "__main__":
    print(reference(), end="")
