"""What a run tells while it goes on: progress over HTTP, files of metrics, a line on the terminal, trackers.

One concern per module, each a TrainerCallback; none of them can fail or hold up the training (see `guarded`).
"""
