"""An arm of one's own: RMSprop with a linear decay. Beside it write `arms: [own_arm:rmsprop, tvlars]`."""

import torch

from optim import Arm, parameter_groups
from search_spaces import Float, Space


def rmsprop(named_parameters, *, lr, total_steps, one_d_lr="capped", hyperparameters, **unused):
    decay = hyperparameters["weight_decay"]
    groups = parameter_groups(named_parameters, lr=lr, one_d_lr=one_d_lr, weight_decay=decay)
    optimizer = torch.optim.RMSprop(groups, lr=lr, alpha=hyperparameters["alpha"])
    return Arm(optimizer, lr, lambda step: 1 - step / total_steps)


rmsprop.space = Space(
    dimensions={
        "base_lr": Float(low=1e-4, high=1e-1, log=True, why="around RMSprop's default of 1e-2"),
        "weight_decay": Float(low=1e-5, high=1e-2, log=True, why="the range of the other arms"),
    },
    fixed={"alpha": 0.99},
)
