"""The report of a study: content.py says what it holds, pdf.py draws it
with images.py and drawing.py, events.py hands it over.
"""
