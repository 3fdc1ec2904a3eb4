"""Repositories elsewhere that every result is pushed to.

`access` is how git is let at one: addresses, credentials, what it may do. `remote` brings one up to
a commit, on top of what others pushed; `contents` gives a server what is kept beside git;
`follower` has that done after each batch, for as long as it takes; `followers` are all of them,
with what is told of them.
"""
