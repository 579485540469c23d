"""Point-E: coloured point clouds, their sampling, surfaces and measures."""
