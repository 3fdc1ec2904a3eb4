"""Sessions with devices: from bytes to proven output.

General layout, bottom to top. Each layer knows only the one below it, so that its inside can be
replaced:

- `channel`: what a shell needs of a transport, as an interface: bytes in, bytes out, the end.
- `tcp`: the wire, and `route`: the way to a host, straight or through `jump_hosts`.
- `ssh`, the transport: it logs in (`ssh_login`, with `credentials`, `keys`, `host_keys` and
  `algorithms`) and gives channels and files (`ssh_channel`).
- `telnet`: the other transport, for channels alone. `access` has both, by the way to a device.
- `terminal`: the bytes of a terminal as lines of text, as a stream.
- `transcript`: everything a device said in one run, on disk.
- `events`: what happens in a session, for whoever looks on; `tape`: what both sides said, undrawn.
- `manners`: what is known of the device's operating system, ready for use; `login`: what the device
  is answered when it asks.
- `lines`: what comes, line by line, and what is sent.
- `shell`: prompts. Learns the device's prompt (`prompt`), runs commands, leaves out their echoes
  (`echo`), turns pages (`paging`), and proves that each has ended (`ending`).
- `execute`: beside the shell: commands that need none.
- `files`: beside the shell: whole files, unpacked as they come.
- `errors`: what can go wrong, each with its failure class.
"""
