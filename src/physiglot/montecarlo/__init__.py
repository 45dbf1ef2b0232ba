"""Markov chains on lattices: many independent chains per kernel call, every random number from a counter."""
