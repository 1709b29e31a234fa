"""Training of victims and generators: pure steps, and one host loop around them."""
