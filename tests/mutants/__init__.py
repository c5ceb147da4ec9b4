"""Mutation check: are the tests able to fail? ``make mutants N=200 SEED=1``; CONTRIBUTING.md says how to read it."""
