"""A session's studies in a list beside the slots: store.py keeps them in memory and forgets them, studies.py says
what a row is, files.py keeps image files, packing.py makes answers small, view.py words them, routes.py answers
worklist.js, export.py puts all reports into one archive.
"""
