"""Whole studies: each takes its options, computes tables and claims, and draws nothing.

``sgdlit.cli.theory`` writes the tables as CSV, draws them, and prints the claims.
"""
