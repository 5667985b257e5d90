"""What does pre-training buy?"""
