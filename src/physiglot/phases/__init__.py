"""Phases told by a network from short Monte Carlo series: what the classifiers, the fits and the figures share.

The paper is J. Ding, H.-K. Tang, W. C. Yu, SciPost Phys. 13, 057 (2022), arXiv 2206.13137.
"""
