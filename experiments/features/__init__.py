"""Features of the frozen model, or fine-tuning?"""
