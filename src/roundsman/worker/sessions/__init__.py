"""Sessions with devices: from bytes to proven output.

General layout, bottom to top. Each layer knows only the one below it, so that its inside can be
replaced:

- `channel`: what a shell needs of a transport, as an interface: bytes in, bytes out, the end.
- `ssh`, with `host_keys` and `algorithms`: the transport. It gives channels, and files.
- `terminal`: the bytes of a terminal as lines of text, as a stream.
- `transcript`: everything a device said in one run, on disk.
- `shell`: prompts. Learns the device's prompt, runs commands, and proves that each has ended.
- `files`: beside the shell: whole files, unpacked as they come.
- `errors`: what can go wrong, each with its failure class.
"""
