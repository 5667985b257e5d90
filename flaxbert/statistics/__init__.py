"""What many seeds of one recipe say: a distribution, not a number.

`baseline` says when a run has failed, `runs` reads scores from folders, `distribution` sums them up, `selection`
tells what choosing the best seed is worth, `comparison` sets two recipes side by side, `figures` draws it all.
"""
