"""The scenes model for a page without a kernel: graphs of its networks, and its weights in the order of the graphs."""
