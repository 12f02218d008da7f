"""Many studies at once: files.py pairs them, tab.py runs them, view.py fills in their
tables, drop.js and panel.js keep them in the browser.
"""
