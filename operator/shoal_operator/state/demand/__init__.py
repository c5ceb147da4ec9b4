"""Demand: who is used, who is hot, who is cold and makes way, how many pods that takes."""
