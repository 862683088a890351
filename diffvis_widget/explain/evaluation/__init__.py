"""How well the explain methods find what is known to be there."""
