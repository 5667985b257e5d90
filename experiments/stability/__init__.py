"""How often does fine-tuning fail, and what helps?"""
