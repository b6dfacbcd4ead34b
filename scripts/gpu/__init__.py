"""What ``scripts/gpu_check.py`` looks at on a machine with a GPU, a file for each question.

Each part is a function of (small): it prints lines for the report, and raises where something does not hold.
With ``small`` it goes through the same code at tiny sizes, on whatever device there is.
"""
