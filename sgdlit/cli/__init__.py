"""How is it called? One file per command; ``main`` finds the command, ``parser`` reads its arguments."""
