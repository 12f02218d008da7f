"""Backbones (six), the single and the concatenated network, and where Grad-CAM looks in each."""
