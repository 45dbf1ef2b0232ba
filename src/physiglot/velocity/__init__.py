"""One velocity field dx/dt = v(x, t), 0 ≤ t ≤ 1, from Gaussian noise to configurations: continuous flows, flow
matching and diffusion are three ways to learn it and two ways to follow it.

A field has `forward(x, t) -> (velocity (batch, …), divergence (batch))`, t one number or one per configuration.
"""
