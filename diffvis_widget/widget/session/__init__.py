"""The session behind a widget: its threads, its state, its runs and its messages to the page."""
