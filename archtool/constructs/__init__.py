"""What architectures say with graph, norms and settings of operators, without an operator of its own."""
