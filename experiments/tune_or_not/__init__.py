"""The study of features against fine-tuning over several tasks; see README.md."""
