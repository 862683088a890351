"""Replies to the requests of the page."""
