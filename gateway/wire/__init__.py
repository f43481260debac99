"""What carriers say and hear: text in, typed events out; commands in, text out. No I/O."""
