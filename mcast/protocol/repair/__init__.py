"""What is missing of the stream, whom to ask for it, what others are given, and the account of every loss.

It knows the core that the parts of a replica share, and none of the roles: what a follower, a candidate or a
sequencer does with a repair is theirs.
"""
