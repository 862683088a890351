"""A study in the notebook: its images, its curves and its runs, linked. `Study.show` makes it."""
