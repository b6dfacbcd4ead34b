"""Does the claim hold? One file per paper: its claims, each with protocol, prediction, picture, verdict."""
