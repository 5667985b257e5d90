"""Why does bias correction act as a warm-up?"""
