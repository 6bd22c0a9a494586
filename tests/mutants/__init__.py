"""Mutants: one small change of one place each, and the tests that notice it.

A test that passes says little; that it fails when the line it guards is wrong says something. `table/` holds a TOML
file for each area, which is a package of mcast, or several (`protocol-reading.toml` is of the area protocol, too), with
a row for each mutant:

    [[mutant]]
    name = "commit_from_anybody"                    # what the mutant does, unique in the table
    file = "mcast/protocol/following.py"
    before = "and envelope.sender == self.core.sequencer:"    # stands exactly once in the file
    after = ":"
    tests = ["tests/protocol/test_following.py::test_only_the_sequencer_commits"]   # each fails when it is made

Of several tests every one must fail by itself only where that matters; the mutant is killed when any of them fails.
A mutant that cannot be noticed, since it is equivalent or since something else guards the same, names no tests but

    guard = "Core.advance_commit ignores what is not higher"     # why, and where the guard is

To add a row: keep `before` as short as is unique, so that it survives other changes of its lines; '''...''' holds text
of several lines as it stands, indentation included. Name the fastest tests that fail, a few at most, and run

    python -m tests.mutants --name commit_from_anybody

`python -m tests.mutants` runs the whole table, outside the ordinary tests: first all named tests on the true code,
which must pass, then each mutant in a copy of the tree. It ends with 1 when a mutant survived, or a row is stale. The
ordinary tests check that no row has gone stale: that its text stands once in its file, and that its tests exist.
"""
