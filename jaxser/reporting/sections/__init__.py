"""The sections of a page of rows: how robust the victims are, and at what cost."""
