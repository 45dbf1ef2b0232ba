"""Spin chains and variational Monte Carlo."""
