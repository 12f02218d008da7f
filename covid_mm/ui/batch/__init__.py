"""Many studies at once: files.py pairs them, tab.py runs them, view.py draws them, with drop.js and panel.js."""
