"""The notebook side: the widget, its worker, its messages and its charts."""
