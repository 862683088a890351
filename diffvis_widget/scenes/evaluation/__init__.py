"""How well the scenes model and its concept model do."""
