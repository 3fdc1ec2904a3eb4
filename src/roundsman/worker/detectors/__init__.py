"""What looks like a secret although every filter has run: found in any text, whatever the device.

- `rules`: what secrets look like, as data.
- `scan`: finds them in a text of any size, in constant memory and bounded time.
"""
