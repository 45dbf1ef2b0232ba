"""Two-dimensional flow past a circular cylinder: vorticity and stream function on a polar grid."""
