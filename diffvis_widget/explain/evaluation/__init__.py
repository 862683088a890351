"""Evaluates the explain methods against ground truth on the scenes world."""
