"""Configuration: files to frozen, validated records.

The steps, one module each: formats (text to plain data with lines), inherit (generics), template
(values filled in), validate (records, secrets fetched), freeze (`records.Configuration`). Every
problem is reported at once; nothing starts on a bad configuration.
"""
