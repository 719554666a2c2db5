# %% [markdown]
# A study from Python: load it, change it, run it, look at what came out. Open this file in an editor that knows
# `# %%` cells, or run it as it is: `python study/docs/notebook.py`. It takes less than a minute on two cores.

# %%
from pathlib import Path

from study import load_study, open_study, run_study
from study.analysis.summary import summarize
from study.plan import make_plan
from study.replay import best_trial, replay_file
from study.reporting.table import final_table

# %%
# A shipped study (or the path of your own), with changes written as on the command line.
spec = load_study(
    "digits-warmup",
    [
        "name=from-a-notebook",
        "arms=[lars, tvlars]",
        "claims=[]",
        "train.epochs=6",
        "search.trials=2",
        "search.repeats=2",
        "search.early_stopping.method=none",
    ],
)
print(spec.question)

# %%
# The plan says what would be run, before anything is spent.
plan = make_plan(spec)
for cell in plan.cells:
    print(cell.name, {name: dimension.describe() for name, dimension in cell.dimensions.items()})
print(plan.trials, "trials,", plan.most_epochs, "epochs")

# %%
# Runs until it is done (interrupting the kernel stops it in order; `resume=True` goes on). It lives in ./studies, or
# where STUDY_HOME or home=... say.
record = run_study(spec)

# %%
# Later, or from another notebook while it runs: the same record, read from its home.
record = open_study("from-a-notebook")
print(record.finished, len(record.trials), record.versions["torch"])

# %%
# Every trial with its parameters, its curve (epoch -> search metric) and its last metrics.
best = best_trial(record, cell=None)  # by its search value: the best of many tries, and no performance
print(best.cell, best.state, dict(best.params))
print([round(value, 3) for _, value in sorted(best.curve.items())])

# %%
# Performance is what the confirm runs scored on the test split; search values selected the winners.
for cell in record.plan.cells:
    print(cell.name, [run.metrics["test/accuracy"] for run in record.of_cell(cell.name, "confirm")])

# %%
# What the report prints: means and intervals over repeats, and what a reader must know beside them.
summary = summarize(record)
print(final_table(summary))
for found in summary.cells:
    print(found.cell.name, found.mean_points, found.interval, [str(flag) for flag in found.flags])

# %%
# One trial as a study file of its own: `python -m study.run best.yaml` runs it again to the same result.
Path("best.yaml").write_text(replay_file(record, best), encoding="utf-8")
