"""Studies of fine-tuning, one folder each; `python -m experiments.run` lists them."""
