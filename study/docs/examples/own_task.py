"""A task of one's own: classification by binary cross-entropy over one-hot labels, with a searched temperature.

Copy it beside your study file and write `task: own_task:OneHot`; `task.temperature` is searched with the arms' knobs.
"""

from types import MappingProxyType

import torch.nn.functional as F

from search_spaces import Float
from trainables.tasks import Classification, TaskFacts


class OneHot(Classification):
    """Everything but the training loss is classification's: the model, the scores, the search metric."""

    space = MappingProxyType({"temperature": Float(low=0.5, high=4.0, log=True, why="logits may want another scale")})

    def __init__(self, facts: TaskFacts) -> None:
        options = dict(facts.options)
        self.temperature = float(options.pop("temperature", 1.0))
        super().__init__(TaskFacts(facts.classes, facts.label_smoothing, options))  # refuses what is left

    def loss(self, model, views, labels):
        logits = model(views[0]).float() / self.temperature
        targets = F.one_hot(labels, self.classes) * (1 - self.label_smoothing) + self.label_smoothing / self.classes
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        return {"loss": loss, "correct": (logits.detach().argmax(dim=1) == labels).sum()}
