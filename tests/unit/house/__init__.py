"""The rules of the house, held for every module that there is or will be."""
