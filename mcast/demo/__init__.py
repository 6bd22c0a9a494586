"""The demonstration's input and machine: every flight that left New York in 2013, or the user's own stream."""
