"""Configuration: a file to frozen, validated records.

`load.load` is the way in. The steps, one module each: formats (text to plain data), check (against
the schema), inherit (generics), template (values), devices, jobs and settings (records, secrets
fetched), assemble (all of it to `records.Configuration`). What is wrong is a finding until
`document` gives it a line (lines) and raises all of them (problems); nothing starts on a bad
configuration.
"""
