"""The page of all that was measured, docs/speed.md: text, tables, and the commands of both."""
