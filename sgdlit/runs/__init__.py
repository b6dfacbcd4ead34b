"""What does a run leave on disk? Its folder, config, status, tables, checkpoints, written and read here."""
