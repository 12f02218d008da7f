"""One study: from the dropped file to its answer, its heatmaps and what they are worth.

slot.py             the image slot, with slot.html and slot.js
examples.py         synthetic phantoms to try
images.py           uploads -> pixels, in processes beside this one; slot_choice.py: which slice, through which window
scans.py            the uploads of a whole CT scan, decoded once
analysis.py         two uploads -> an answer or a sentence; shared by the page and the API
heatmaps.py         which heatmaps, and what is said of each
events.py           what can be asked for after an answer, with evidence.js
result.py           an answer for the page, drawn by result.html
series.py           a scan in the result, with series.html and series.js
waiting.py          what stands there while a study waits
evidence.py         what an answer is worth elsewhere, in words
operating_point.py  what other thresholds would have meant
warnings.py         the warnings beside an answer, in words
"""
