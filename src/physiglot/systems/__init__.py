"""What is simulated: one module per physical system, found by its name."""
