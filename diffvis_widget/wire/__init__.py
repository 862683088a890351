"""The messages between kernel and page, and the packed form of a run. Needs numpy and Pillow only."""
