"""The Model tab: tab.py draws a checkpoint's card from sections.py, left_out.py and roc_chart.py."""
