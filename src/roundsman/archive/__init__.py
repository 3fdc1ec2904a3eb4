"""The archive: the git repository of results.

`interface` states the laws; `git` keeps them.
"""
