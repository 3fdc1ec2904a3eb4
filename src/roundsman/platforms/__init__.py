"""Platforms: the operating systems of devices as data.

`data/NAME.yaml` says what is known of one; a user's own file says the same in the same way.
`schema` has every key; `load` finds a platform by name, alias or path and reads it, with everything
that is wrong with it at once.
"""
