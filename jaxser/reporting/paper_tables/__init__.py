"""Tables of papers, filled as far as rows exist, beside what the papers printed."""
