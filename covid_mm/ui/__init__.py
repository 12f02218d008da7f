"""The Gradio page, and the server around it.

app.py         the command that serves it
page.py        the layout, and the events of a study
predictors.py  the networks load behind the page, and one study at a time has them
pictures.py    arrays and outlines as pictures inside the page
templates.py   reads the page's own files, fills in its templates
style.py       the theme, with page.css; page.js is the page's own behaviour
study/         one study: slots, answer, heatmaps
report/        its report as PDF and JSON
batch/         many studies at once
model/         the Model tab
i18n/          languages
server/        settings, launch, limits, uploads, login
"""
