"""The console: a page on each broker's HTTP port that shows the whole cluster, its records and its groups.

It is a client like any other: what it shows of the cluster it asks by `lograft.client`, of its own broker first.
Nothing here is imported before somebody opens the page, but for `door`.
"""
