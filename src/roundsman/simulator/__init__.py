"""Devices that are not there: for the demo, the tests and the benchmarks, over real SSH and Telnet.

- `faults`: what can be wrong with a device, whatever it plays.
- `terminal`: a device's terminal: line editor, echo, output with its faults.
- `server`: a port behind which dialogues are played.
- `kinds`: device operating systems as data: prompts, commands, what they print.
- `device`: one device of some kind.
- `recorded`: recorded dialogues.
- `machine`: state machines.
- `played`: files of either format.
- `replay`: a recorded dialogue read by the session engine without a network.
- `files`: a device's files, over SFTP.
- `fleet`: many devices at once, and the configuration that matches them.
"""
