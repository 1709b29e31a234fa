"""What the commands do with victims, speech, the driver and rows."""
