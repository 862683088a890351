"""Training of the scenes model, from nothing to the shipped weights: `python -m diffvis_widget.scenes.training`."""
