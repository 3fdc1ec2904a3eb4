"""Whole files from a device: one file here for each protocol, all behind `interface.Files`.

`transfers.open_files` chooses among them by the job's `transfer`. What they have in common: a file
is streamed, never held; and it counts as fetched only when its end is proven, by the protocol's own
word for it and by the length that was announced, where one was.
"""
