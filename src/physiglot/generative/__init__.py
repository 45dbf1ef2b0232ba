"""What generative models share: losses, flows, energies of memories and machines, and the one report of all."""
