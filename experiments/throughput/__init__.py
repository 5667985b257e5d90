"""How fast training is; question and results in README.md."""
