"""The console: a page on each broker's HTTP port that shows the whole cluster, and lets records and groups be looked into.

It is a client like any other: what it shows of the cluster it asks by `lograft.client`, from its own broker first. Nothing
here is imported before somebody opens the page, but for `door`.
"""
