"""The Gradio page, and the server around it.

server.py     settings, environment, launch, clean end; imports Gradio only when it serves
page.py       the events' functions and the layout
study_images.py  uploads -> pixels, in processes beside this one
analysis.py   two uploads -> an answer or a sentence; shared by the page and the API
result.py     an answer as HTML
pictures.py   arrays as pictures inside the page
report.py     what a study's report says, and its JSON
report_pdf.py draws it: pages and text, with report_images.py and report_parts.py
slot.py       the image slot, with assets/slot.html and assets/slot.js
static.py     reads assets/
style.py      the theme, with assets/page.css; assets/page.js is the page's own behaviour
examples.py   synthetic phantoms to try
loading.py    the network loads behind the page
guard.py      refuses what the page does not need, before Gradio reads it: origin.py, request_body.py, upload_parts.py
connections.py, login.py   slow clients and guessed passwords
faults.py, quiet_blocks.py what goes wrong in one line of the log
privacy.py    the private folder for uploads
"""
