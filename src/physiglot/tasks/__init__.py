"""What is asked of a trained model: one module per question, found by its name."""
