"""Files that people write: text to plain data, held against a record, complained of all at once.

The steps, one module each: formats (text to plain data), check (against a record), document (both,
for a file). What is wrong is a finding until `document` gives it a line (lines) and raises all of
them (problems).
"""
