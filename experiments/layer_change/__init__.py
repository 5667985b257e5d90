"""Which layers does fine-tuning change, and when?"""
