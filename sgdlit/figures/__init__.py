"""What does it look like? Figures drawn with matplotlib from stored results: tables of rows, nothing else."""
