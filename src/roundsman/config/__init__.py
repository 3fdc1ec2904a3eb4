"""Configuration: a file to frozen, validated records.

`load.load` is the way in. The steps, one module each: `documents` (text to plain data, held against
the schema), inherit (generics), template (values), devices, jobs and settings (records, secrets
fetched), assemble (all of it to `records.Configuration`). What is wrong is a finding until the
document gives it a line and raises all of them; nothing starts on a bad configuration.
"""
