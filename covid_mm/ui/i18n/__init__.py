"""The page's languages: language.py chooses and translates, static_translations.py hands fixed parts to Gradio."""
