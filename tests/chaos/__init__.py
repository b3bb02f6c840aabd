"""A real cluster of broker processes under real faults with real work; the checker's verdict is the result.

    python -m tests.chaos mixed --minutes 3 [--seed 7]      also: make chaos MINUTES=3

Start reading at `run.py`: it says who takes part in a run, and in which order.
"""
