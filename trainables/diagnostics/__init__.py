"""What is measured beside training, and changes nothing of it. `config` and `target` are free of torch."""
