"""Where a network looks: Grad-CAM per branch, and its heatmap as colours over the image."""
