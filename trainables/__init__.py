"""Data, models, tasks and the training loop: plain PyTorch, free of Ray, Optuna and MLflow."""
