"""The kinds of results that a trace can store: notes, concept scores, saliency maps, word relevance."""
