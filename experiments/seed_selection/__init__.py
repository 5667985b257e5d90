"""What is the best of many seeds worth?"""
