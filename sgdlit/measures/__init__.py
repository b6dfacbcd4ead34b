"""What is measured? One quantity per file: a pure function, its formula, and the measure that a run takes of
it.

A measure declares what it needs of a run at a step; ``training.measuring.Measures`` takes measures during
training. The pure functions work in any script.
"""
