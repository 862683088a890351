"""Replies to the requests of the page, and the jobs that it can request."""
