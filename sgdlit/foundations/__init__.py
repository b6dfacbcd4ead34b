"""What does everything stand on? Words and progress on the terminal, errors for people, files, intervals,
the counter-based generator, exact sums, and the loader of C code.

This room imports no other. ``errors``, ``console`` and ``progress`` need neither torch nor numpy, so that a
command's help and its first error come at once.
"""
