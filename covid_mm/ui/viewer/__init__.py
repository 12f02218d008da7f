"""The reading viewer: both images at full resolution in one dialog, before and after the answer.

frames.py      full-resolution pixels of a slot's upload, in a process that reads files
events.py      the dialog, and the event that brings frames to it
assets.py      its scripts, sent when it is first opened
viewer.html    the dialog; viewer.css: its look
opener.js      loaded with the page: opens the dialog, asks the server for frames
viewer.js      tools, keys and layout; film.js: one image or stack; pane.js: one view of it
openseadragon.min.js   zoom, pan and touch (BSD-3-Clause, openseadragon-licence.txt)
"""
