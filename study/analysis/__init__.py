"""What the trials of a study say: counts, scores over repeats, intervals, flags. No verdicts."""
