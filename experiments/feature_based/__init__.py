"""The study of features by layer; see README.md."""
