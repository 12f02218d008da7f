"""The server around the page: settings, launch, what it refuses, and what it leaves behind.

settings.py         flags and environment variables
launch.py           environment, launch, clean end; imports Gradio only when it serves
request_limits.py   refuses what the page does not need, before Gradio reads it
request_body.py     counts, times and renames what is uploaded
upload_folder.py    the private folder for uploads
connections.py      slow and countless clients
login.py            guessed passwords
error_log.py        what goes wrong, in one line of the log
"""
