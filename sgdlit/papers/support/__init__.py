"""What papers read from finished runs: the learning rates of their schedules, and their exact risk."""
