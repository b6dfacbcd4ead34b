"""What is measured? One quantity per file: a pure function, with its formula, what it needs and its cost."""
