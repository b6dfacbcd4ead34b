"""How does a run run? The LightningModules, and the callbacks that keep, stop, show and judge a run."""
