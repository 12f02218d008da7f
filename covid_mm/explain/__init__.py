"""Where a network looks: Grad-CAM a branch, and its heatmap as colours over the image."""
