"""What does a run leave on disk? One folder layout, which is written and read in this room only.

    config.yaml              everything that was set
    config_from_step_K.yaml  the same, where the run went on from step K with other values
    status.json              how the run stands and what it reached; of an ensemble, each member
    metrics.csv              a row per logged step (and member), appended as it is measured
    members.csv              a row per member: what distinguishes it, how it ended, what it reached
    checkpoints/best.ckpt    the state that validation found best
    checkpoints/resume.ckpt  the latest state, from which the run goes on
    snapshots/step_K.ckpt    light files of what was trained after K updates, where the run keeps them
    measures.csv             what ``measure --run`` took from them: a row per step (and member)
    test.json                what ``test --run`` found; ``validate.json`` alike
    writer.lock              locked by the process that writes the folder

``sgdlit.load_run(folder)`` reads it back, in plain Python.
"""
