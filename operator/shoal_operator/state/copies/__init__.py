"""Copies: the life of one, its route, what it takes, what is looked up for it, and who asks for it."""
