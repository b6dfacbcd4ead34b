"""What is seen, and in which order: streams, shards, readers, orders, and the LightningDataModules."""
