"""Pages of HTML about runs and records: one file that loads nothing, and holds no script.

`sources` says what a folder is, `runs` and `records` make a page of it out of `html`, `charts`, `tables` and
`markdown`, `document` is what all pages have in common.
"""
