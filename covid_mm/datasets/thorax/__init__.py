"""A three-dimensional thorax of simple shapes in Hounsfield units, and the pictures taken of it.

canvas.py     grids of points, shapes painted on them
waves.py      smooth random fields
anatomy.py    the numbers that differ from body to body, and the outlines
organs.py     heart, vessels, airways, bones
lungs.py      vessel trees, texture, lesions
body.py       all of it put together on a grid
pictures.py   the CT slice and the X-ray of one body
"""
