"""Writes the graphs: ``python -m diffvis_widget.scenes.page``. It needs the extra ``graphs``."""

from .graphs import write_graphs

if __name__ == "__main__":
    print(write_graphs())
