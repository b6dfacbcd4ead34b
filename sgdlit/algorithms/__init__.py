"""What is an update? Rules of optimizers, the step of K ≥ 1 runs, and the engines that take many steps."""
