"""Devices that are not there: for the demo, the tests and the benchmarks, over real SSH.

- `kinds`: device operating systems as data: prompts, commands, what they print.
- `faults`: what can be wrong with a device.
- `terminal`: a device's shell: line editor, echo, output with its faults.
- `files`: a device's files, over SFTP.
- `device`: one device: an SSH server on a port of the loopback interface.
- `recorded`: kinds read from recorded dialogues.
- `fleet`: many devices at once, and the configuration that matches them.
"""
